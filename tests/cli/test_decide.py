"""`windtunnel replay` and `rollback`: a decision made again, and traffic taken back by a person."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from include.cli.main import main
from include.release.decisions import decide
from include.settings import Settings
from include.store.database import open_database

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def decision(settings: Settings) -> str:
    """A gate that 0.9 passes at 0.5."""
    given = {
        "candidate": "d" * 64, "dataset_version": "1.0.0", "champion": None, "backfill": False,
        "attempt": 1, "max_attempts": 1, "confidence": 0.95,
        "gates": [{"name": "floor", "metric": "recall", "operator": "gte", "threshold": 0.5}],
        "splits": {"test": {
            "summary": {"recall": {"value": 0.9, "low": 0.85, "high": 0.95, "n": 200, "sd": 0.3}}, "comparisons": {},
        }},
    }  # fmt: skip
    return decide(open_database(settings.database_url), "toy", "gate", given, code_version="c", at=NOW).id


def test_a_decision_made_again_is_the_same(decision: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", decision, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True


def test_another_threshold_shows_what_would_have_been(decision: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", decision, "--set", "gates.0.threshold=0.99"]) == 0
    shown = capsys.readouterr().out
    assert "DIFFERENT" in shown
    assert "before: PASS" in shown and "after: FAIL" in shown


@pytest.mark.parametrize("change", ["threshold", "=1", "gates.9.threshold=1"])
def test_a_change_that_leads_nowhere_is_refused(decision: str, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", decision, "--set", change]) != 0
    assert "what to do" in capsys.readouterr().err


def test_nothing_can_be_taken_back_where_nothing_serves(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "compliance_qa", "--reason", "wrong answers"]) != 0
    assert "nothing serves" in capsys.readouterr().err
