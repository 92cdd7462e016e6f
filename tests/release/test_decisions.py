"""Decisions are stored with their input, and can be made again."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from include.errors import UserError
from include.release.decisions import KINDS, decide, list_decisions, read_decision, replay
from include.settings import Settings
from include.store.database import open_database

pytestmark = pytest.mark.every_database

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def engine(settings: Settings) -> Engine:
    return open_database(settings.database_url)


def gate_input(low: float = 0.7) -> dict[str, Any]:
    gate = {"name": "floor", "metric": "recall", "operator": "gte", "threshold": 0.8}
    summary = {"recall": {"value": 0.85, "low": low, "high": 0.95, "n": 100, "sd": 0.3}}
    return {
        "gates": [gate],
        "confidence": 0.95,
        "champion": None,
        "splits": {"test": {"summary": summary}},
        "attempt": 1,
        "max_attempts": 2,
    }


def made(engine: Engine, at: datetime = NOW, **changes: Any) -> Any:
    return decide(engine, "tiny", "gate", gate_input(**changes), code_version="c1", at=at)


def test_the_same_question_is_answered_once(engine: Engine) -> None:
    first, again = made(engine), made(engine, at=NOW + timedelta(hours=1))
    assert (again.id, again.at) == (first.id, NOW)
    assert len(list_decisions(engine, "tiny")) == 1
    assert made(engine, low=0.6).id != first.id


def test_replay_gives_the_same_answer_and_stores_nothing(engine: Engine) -> None:
    decision = made(engine)
    assert decision.output["verdict"] == "INCONCLUSIVE"
    found = replay(engine, decision.id[:12])
    assert found["same"]
    assert found["after"] == decision.output
    assert len(list_decisions(engine, "tiny")) == 1


def test_replay_answers_what_if(engine: Engine) -> None:
    decision = made(engine)
    found = replay(engine, decision.id, {"gates.0.threshold": 0.65})
    assert not found["same"]
    assert found["after"]["verdict"] == "PASS"
    assert found["before"]["verdict"] == "INCONCLUSIVE"
    assert read_decision(engine, decision.id).input["gates"][0]["threshold"] == 0.8


@pytest.mark.parametrize("path", ["gates.0.treshold", "gates.7.threshold", "gate", "confidence.x", "gates.x"])
def test_a_change_that_leads_nowhere_is_told(engine: Engine, path: str) -> None:
    with pytest.raises(UserError, match="has no"):
        replay(engine, made(engine).id, {path: 1})


def test_unknown_and_ambiguous_ids_are_told(engine: Engine) -> None:
    made(engine), made(engine, low=0.6)
    with pytest.raises(UserError, match="no decision"):
        read_decision(engine, "zzz")
    with pytest.raises(UserError, match="more than one"):
        read_decision(engine, "")
    with pytest.raises(UserError, match="no decision"):
        read_decision(engine, "%")


def test_an_unknown_kind_is_told(engine: Engine) -> None:
    with pytest.raises(UserError, match="no kind"):
        decide(engine, "tiny", "taste", {}, code_version="c", at=NOW)


def test_what_is_not_json_is_refused_before_anything_is_decided(engine: Engine) -> None:
    with pytest.raises(ValueError):
        decide(engine, "tiny", "gate", {**gate_input(), "confidence": float("nan")}, code_version="c", at=NOW)
    assert list_decisions(engine, "tiny") == []


@pytest.mark.parametrize("reference", KINDS.values())
def test_every_kind_names_a_function(reference: str) -> None:
    module, _, name = reference.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
