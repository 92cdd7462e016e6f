"""One reviewer's form: made of the review's pairs, with an answer for each, and silence that releases nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.providers.standard.operators.hitl")

from airflow.providers.standard.operators import hitl
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskAwaitingInput

from include.data.qa.review import ReviewPair, store_batch
from include.settings import Settings
from include.store.objects import open_store
from plugins.windtunnel.operators.review import LEAVE, SUBMIT, ReviewOperator


def pair(number: int, question: str = "May it?") -> ReviewPair:
    return ReviewPair(
        source="sample", delivery="2026-10-12", place=f"questions.jsonl:{number}", question=question, answer="Yes.",
        evidence="It may.", doubt="confidence 0.50",
    )  # fmt: skip


PAIRS = [pair(1), pair(2, "Is ![x](http://evil.example/y) <script> {{ 1 + 1 }} safe?")]


@pytest.fixture
def seat(settings: Settings) -> ReviewOperator:
    key = store_batch(open_store(settings.store_url), "review/1", PAIRS)
    with DAG("review__x"):
        return ReviewOperator(task_id="reviewer_1", subject="Right?", batch=key, response_timeout=timedelta(hours=1))


def event(options: list[str], params: dict[str, str], user: dict[str, str] | None) -> dict[str, Any]:
    at = datetime(2026, 11, 2, tzinfo=UTC)
    return {"chosen_options": options, "params_input": params, "responded_at": at, "responded_by_user": user}


def test_the_form_shows_every_pair_and_waits(seat: ReviewOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **given: asked.update(given))
    with pytest.raises(TaskAwaitingInput) as parked:
        seat.execute({"task_instance": SimpleNamespace(id="1")})
    assert parked.value.timeout == timedelta(hours=1)
    assert asked["defaults"] == [LEAVE]
    assert list(asked["params"]) == ["pair_01", "pair_02"]
    assert asked["params"]["pair_01"]["value"] == "unsure"
    assert asked["params"]["pair_01"]["schema"]["enum"] == ["unsure", "right", "wrong"]
    assert "It may\\." in asked["body"]
    assert "![x](" not in asked["body"] and "<script>" not in asked["body"], "text of the data is no markup"


def test_answers_are_kept_by_pair_and_person(seat: ReviewOperator) -> None:
    given = event([SUBMIT], {"pair_01": "right", "pair_02": "wrong"}, {"id": "7", "name": "ada"})
    assert seat.execute_complete({}, given) == {
        "reviewer": "ada",
        "answers": {PAIRS[0].name: "right", PAIRS[1].name: "wrong"},
    }


@pytest.mark.parametrize(
    "given",
    [
        event([LEAVE], {"pair_01": "unsure", "pair_02": "unsure"}, None),
        event([LEAVE], {"pair_01": "right", "pair_02": "right"}, {"id": "7", "name": "ada"}),
        event([SUBMIT], {"pair_01": "right", "pair_02": "right"}, None),
    ],
    ids=["nobody answered in time", "the reviewer left them", "answered by nobody"],
)
def test_without_a_person_who_submits_there_is_no_answer(seat: ReviewOperator, given: dict[str, Any]) -> None:
    assert seat.execute_complete({}, given)["answers"] == {}


def test_a_form_that_was_tampered_with_is_refused(seat: ReviewOperator) -> None:
    with pytest.raises(ValueError):
        seat.execute_complete({}, event([SUBMIT], {"pair_99": "right"}, {"id": "7", "name": "eve"}))
