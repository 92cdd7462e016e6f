"""The approval's form in the web UI: what it shows, who it believes, and what a no skips."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.providers.standard.operators.hitl")

from airflow.providers.standard.operators import hitl
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped, TaskAwaitingInput

from include.release import approval
from plugins.windtunnel.operators.approval import ReleaseApprovalOperator, sheet

FACTS: dict[str, Any] = {
    "version": "1.1.0", "change": "minor, better", "dataset_version": "2.0.0", "champion": "1.0.0", "cost": "1.20 EUR",
    "decision": "d" * 64, "creator": "<b>eve</b>",
    "gates": [{"name": "floor", "verdict": "PASS", "value": 0.9, "low": 0.85, "high": 0.95, "n": 100,
               "why": "a | b ![x](http://evil.example)"}],
    "against_champion": {"map": {"difference": 0.02, "low": 0.01, "high": 0.03, "n": 100}},
    "stages": [{"stage": "shadow", "verdict": "PASS", "why": ["fine"]}],
}  # fmt: skip


class Ledger:
    """The answers of one rollout."""

    def __init__(self, given: dict[str, Any] | None = None) -> None:
        self.given = given
        self.settled: list[dict[str, Any]] = []

    def answer(self, *_: Any) -> dict[str, Any] | None:
        return self.given

    def settle(self, settings: Any, family: str, rollout: str, *, at: datetime, **given: Any) -> dict[str, Any]:
        self.settled.append(given)
        return given


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    found = Ledger()
    monkeypatch.setattr(approval, "facts", lambda *_: FACTS)
    for name in ("answer", "settle"):
        monkeypatch.setattr(approval, name, lambda *a, _name=name, **k: getattr(found, _name)(*a, **k))
    return found


@pytest.fixture
def task() -> ReleaseApprovalOperator:
    with DAG("release__x", params={"profile": "demo"}, default_args={"retries": 2}):
        asked = ReleaseApprovalOperator(
            task_id="approve", subject="Live?", family="x", rollout={"rollout": "1.1.0-a"},
            response_timeout=timedelta(hours=24),
        )  # fmt: skip
        asked >> [EmptyOperator(task_id="canary"), EmptyOperator(task_id="rollback")]
    return asked


def context(task: ReleaseApprovalOperator) -> Any:
    ti = SimpleNamespace(id="1", map_index=-1, xcom_push=lambda **_: None)
    return {"task_instance": ti, "ti": ti, "task": task}


def event(option: str, user: dict[str, str] | None, reason: str | None = "I read it") -> dict[str, Any]:
    at = datetime(2026, 11, 2, tzinfo=UTC)
    return {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": at,
        "responded_by_user": user,
    }


def test_it_asks_with_the_facts_and_no_answer_is_a_no(
    task: ReleaseApprovalOperator, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **given: asked.update(given))
    with pytest.raises(TaskAwaitingInput) as parked:
        task.execute(context(task))
    assert parked.value.timeout == timedelta(hours=24)
    assert asked["defaults"] == ["Reject"]
    assert list(asked["params"]) == ["reason"]
    for fact in ("1.1.0", "2.0.0", "1.20 EUR", "0.9 [0.85, 0.95], n = 100"):
        assert fact in asked["body"]
    assert "0.02 [0.01, 0.03]" in asked["body"]


def test_text_of_others_is_no_markup() -> None:
    body = sheet(FACTS)
    assert "![x](" not in body and "<b>" not in body and "a | b" not in body


def test_a_yes_goes_on_and_names_the_person(task: ReleaseApprovalOperator, ledger: Ledger) -> None:
    held = task.execute_complete(context(task), event("Approve", {"id": "7", "name": "ada"}))
    assert held == {"approved": True, "actor": "ada", "reason": "I read it"}


@pytest.mark.parametrize(
    ("given", "actor"),
    [
        (event("Reject", {"id": "7", "name": "ada"}), "ada"),
        (event("Reject", None), "nobody"),
        (event("Approve", None), "nobody"),
    ],
    ids=["a person says no", "nobody answered in time", "an approval by nobody"],
)
def test_a_no_skips_what_follows(
    task: ReleaseApprovalOperator, ledger: Ledger, given: dict[str, Any], actor: str
) -> None:
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        task.execute_complete(context(task), given)
    assert sorted(skipped.value.tasks) == ["canary", "rollback"]
    assert [(item["approved"], item["actor"]) for item in ledger.settled] == [(False, actor)]


def test_a_task_that_is_tried_again_asks_nobody_twice(
    task: ReleaseApprovalOperator, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **_: pytest.fail("asked again"))
    ledger.given = {"approved": True, "actor": "ada", "reason": "r"}
    assert task.execute(context(task)) == ledger.given
    ledger.given = {"approved": False, "actor": "ada", "reason": "r"}
    with pytest.raises(DownstreamTasksSkipped):
        task.execute(context(task))
