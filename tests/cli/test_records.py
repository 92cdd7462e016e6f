"""status, versions, ledger: what serves and why, with and without a running stack."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from include.cli.records import brief, metrics_text
from include.release.ledger import Ledger
from include.spec import family_names
from tests.cli.conftest import FAMILY, Result

Windtunnel = Callable[..., Result]
needs_family = pytest.mark.skipif(FAMILY not in family_names(), reason="the family's spec")


def test_nothing_has_happened_yet(windtunnel: Windtunnel) -> None:
    result = windtunnel("status", "--json")
    assert result.code == 0
    assert result.json["stack"] == {"running": False, "services": {}}
    shown = windtunnel("status")
    assert "does not run" in shown.out and "windtunnel up" in shown.out


@needs_family
@pytest.mark.parametrize("command", ["versions", "ledger"])
def test_empty_lists_say_so(windtunnel: Windtunnel, command: str) -> None:
    assert windtunnel(command, FAMILY, "--json").json == []
    assert FAMILY in windtunnel(command, FAMILY).out


@needs_family
def test_status_tells_who_has_how_much_traffic(windtunnel: Windtunnel, story: Ledger) -> None:
    record = windtunnel("status", "--json").json["families"][FAMILY]
    assert record["route"]["generation"] == 2
    assert record["route"]["champion"]["version"] == "1.0.0"
    assert record["route"]["challenger_share"] == 0.05
    assert record["last"]["event"] == "stage_entered"
    assert record["gateway"]["reachable"] is False
    shown = windtunnel("status").out
    assert "95%" in shown and "5%" in shown and "canary" in shown and "does not answer" in shown


@needs_family
def test_versions_show_metrics_with_intervals_and_who_serves(windtunnel: Windtunnel, story: Ledger) -> None:
    newest, oldest = windtunnel("versions", FAMILY, "--json").json
    assert (newest["version"], newest["serves_as"]) == ("1.1.0", "challenger")
    assert (oldest["version"], oldest["serves_as"]) == ("1.0.0", "champion")
    assert "recall_at_10 0.860 [0.830, 0.890]" in windtunnel("versions", FAMILY).out


@needs_family
def test_the_ledger_is_told_in_order(windtunnel: Windtunnel, story: Ledger) -> None:
    entries = windtunnel("ledger", FAMILY, "--json").json
    assert [entry["event"] for entry in entries] == ["stage_entered"]
    assert "stage canary" in windtunnel("ledger", FAMILY).out


@pytest.mark.parametrize("command", [("versions",), ("ledger",), ("data", "versions"), ("quarantine", "list")])
def test_an_unknown_family_is_told(windtunnel: Windtunnel, command: tuple[str, ...]) -> None:
    result = windtunnel(*command, "no_such_family")
    assert result.code == 2
    assert "there is no family 'no_such_family'" in result.err and "known families" in result.err


@needs_family
def test_asking_without_a_gateway_says_how_to_start_one(windtunnel: Windtunnel) -> None:
    result = windtunnel("ask", FAMILY, "Who?")
    assert result.code == 1
    assert "does not answer" in result.err and "windtunnel up" in result.err
    assert windtunnel("ask", FAMILY, "  ").code == 2


@needs_family
def test_training_without_a_stack_says_how_to_start_one(windtunnel: Windtunnel) -> None:
    result = windtunnel("train", FAMILY)
    assert result.code == 2
    assert "windtunnel up" in result.err


@needs_family
def test_quarantine_of_an_unknown_delivery_is_told(windtunnel: Windtunnel) -> None:
    assert windtunnel("quarantine", "list", FAMILY, "--json").json == []
    result = windtunnel("quarantine", "show", FAMILY, "2026-01-01")
    assert result.code == 2 and "2026-01-01" in result.err


def test_a_damaged_ledger_is_told(windtunnel: Windtunnel, settings: object) -> None:
    from include.settings import Settings

    assert isinstance(settings, Settings)
    database = settings.home / "db" / "ledger.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is no database" * 100)
    if FAMILY in family_names():
        result = windtunnel("ledger", FAMILY)
        assert result.code == 1 and "ledger" in result.err


def test_a_record_is_shown_on_one_line() -> None:
    record = {"stage": "canary", "rollout": "x", "why": ["a", "b"], "nested": {"a": 1}, "empty": "", "long": "z" * 500}
    text = brief(record)
    assert text.startswith("stage canary, why a; b, long zzz") and len(text) == 160


def test_metrics_without_intervals_and_no_metrics_at_all() -> None:
    assert metrics_text({"metrics": {"a": {"value": 0.5, "low": None, "high": None}}}) == "a 0.500"
    assert metrics_text({"metrics": None}) == metrics_text({}) == ""
