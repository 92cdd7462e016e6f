"""The data-volume monitor: which rows are news, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from include.monitoring import volume
from include.release.ledger import Ledger
from include.release.routing import Role, RoutingTable, Variant
from include.settings import Settings
from include.store.database import open_database
from tests.fakes.tiny_family import FAMILY, tiny_spec

ENOUGH = 10_000


def counts(patch: pytest.MonkeyPatch, rows: int) -> None:
    patch.setattr(volume, "count_new_rows", lambda settings, spec, source, environ: rows)


def serves(settings: Settings, patch: pytest.MonkeyPatch, learned_from: str) -> None:
    """Puts version 1.0.0 in service, trained on a dataset that was made from `learned_from`."""
    table = RoutingTable(champion=Variant(role=Role.CHAMPION, version="1.0.0", digest="a" * 64))
    ledger = Ledger(open_database(settings.database_url))
    ledger.swap_route(FAMILY, 0, table, reason="test", actor="me", at=datetime(2026, 11, 2, tzinfo=UTC))
    patch.setattr(
        volume, "find_version", lambda *_: SimpleNamespace(version="1.0.0", dataset_version="3.1.0"), raising=True
    )
    dataset = SimpleNamespace(manifest=SimpleNamespace(source=learned_from))
    patch.setattr(volume, "open_dataset", lambda settings, family, version: {"3.1.0": dataset}[version])


@pytest.mark.parametrize(("rows", "asks"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_enough_new_rows_ask(settings: Settings, monkeypatch: pytest.MonkeyPatch, rows: int, asks: bool) -> None:
    counts(monkeypatch, rows)
    serves(settings, monkeypatch, "declared")
    found = volume.new_rows(settings, tiny_spec(), None)
    assert (found["new_rows"], found["threshold"], found["asks"]) == (rows, ENOUGH, asks)
    assert f"{rows} new rows wait at sample" in found["why"]


def test_where_nothing_serves_nobody_is_asked_to_train_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts(monkeypatch, ENOUGH)
    found = volume.new_rows(settings, tiny_spec(), None)
    assert not found["asks"]
    assert "nothing serves yet" in found["why"]


def test_rows_at_another_source_than_the_champions_are_no_news_unless_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts(monkeypatch, ENOUGH)
    serves(settings, monkeypatch, "elsewhere-12345678")
    found = volume.new_rows(settings, tiny_spec(), None)
    assert not found["asks"]
    assert "1.0.0 learned from 'elsewhere-12345678'" in found["why"]
    asked = volume.new_rows(settings, tiny_spec(), "/elsewhere")
    assert asked["asks"]
    assert asked["cause"]["source"] == "/elsewhere"
