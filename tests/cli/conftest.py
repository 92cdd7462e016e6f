"""The command, run as people run it, and a ledger with a story in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert

from include.cli.main import main
from include.release.ledger import Event, Ledger
from include.release.routing import Role, RoutingTable, Variant
from include.settings import Settings
from include.store import schema
from include.store.database import open_database

FAMILY = "compliance_qa"
AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
CHAMPION = Variant(role=Role.CHAMPION, version="1.0.0", digest="c" * 64)
CHALLENGER = Variant(role=Role.CHALLENGER, version="1.1.0", digest="d" * 64)


@dataclass(frozen=True)
class Result:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def windtunnel(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs `windtunnel ...` on the test's installation, in this process: a new one would import for a second."""
    monkeypatch.setenv("WINDTUNNEL_GATEWAY_URL", "http://127.0.0.1:1")  # nobody's: the usual port may be somebody's

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return run


@pytest.fixture
def story(settings: Settings) -> Ledger:
    """A champion, and a challenger that has reached 5%."""
    engine = open_database(settings.database_url)
    ledger = Ledger(engine)
    metrics = {"recall_at_10": {"value": 0.86, "low": 0.83, "high": 0.89, "n": 120}}
    with engine.begin() as connection:
        for variant in (CHAMPION, CHALLENGER):
            values = {
                "family": FAMILY, "version": variant.version, "fingerprint": variant.version, "digest": variant.digest,
                "verdict": "PASS", "releasable": 1, "mlflow_version": "1", "dataset_version": "1.0.0",
                "record": {"metrics": metrics, "hyperparameters": {"lr": 0.1}}, "registered_at": AT,
            }  # fmt: skip
            connection.execute(insert(schema.model_versions).values(**values))
    ledger.swap_route(FAMILY, 0, RoutingTable(champion=CHAMPION), reason="promoted", actor="tests", at=AT)
    table = RoutingTable(
        champion=CHAMPION, challenger=CHALLENGER, challenger_share=0.05, stage="canary", rollout="1.1.0-x"
    )
    ledger.swap_route(FAMILY, 1, table, reason="stage canary", actor="tests", at=AT)
    record = {"stage": "canary", "traffic": 0.05, "why": ["moved"]}
    ledger.append(FAMILY, Event.STAGE_ENTERED, key="e", actor="tests", at=AT, model_version="1.1.0", record=record)
    return ledger
