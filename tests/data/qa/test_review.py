"""Uncertain pairs go to people; what they agree to be right is released, once; everything else stays where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from include.data.qa.agreement import Answer
from include.data.qa.gate import NEEDS_REVIEW, REASONS
from include.data.qa.issues import confidence_in, told
from include.data.qa.review import Reviewed, ReviewOutcome, ReviewPair, choose_batch, read_batch, settle, store_batch
from include.data.records import PairReport
from include.release.ledger import Event, Ledger
from include.settings import Settings
from include.spec.pairs import QaSpec
from include.store.database import open_database
from tests.data.conftest import FAMILY, Deliveries, Pipeline, ask, make_spec

AT = datetime(2026, 10, 20, 8, 0, tzinfo=UTC)
DOUBTED = {"q-001": 0.55, "q-002": 0.20, "q-003": 0.84, "q-004": 0.50}
QA = QaSpec.model_validate({"review": {"budget": 3, "reviewers": 2}})


class DoubtfulGate:
    """Stands in for the validation of pairs: certain questions are in doubt, by a confidence that is given."""

    def __init__(self, *arguments: Any) -> None:
        self._waivers = arguments[-1]

    def judge(self, piece: pa.RecordBatch, failed: Mapping[int, Any]) -> tuple[dict[int, Any], dict[int, list[str]]]:
        found, waived = {}, {}
        for number, row in enumerate(piece.to_pylist()):
            reasons = self._waivers.waives("questions", row["place"], REASONS)
            if reasons:
                waived[number] = reasons
            elif row["question_id"] in DOUBTED and number not in failed:
                found[number] = (NEEDS_REVIEW, told(DOUBTED[row["question_id"]], 0.9, 1.0, 1.0, ["low confidence"]))
        return found, waived

    def report(self) -> PairReport:
        return PairReport()


@pytest.fixture
def pipeline(settings: Settings, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setattr("include.data.sieve.PairGate", DoubtfulGate)
    source = Deliveries(tmp_path / "source")
    source.add("2026-10-12", {"AA": ["Rule 1.", "Rule 2."]}, [ask(n, f"AA-1.{n % 2 + 1}") for n in range(1, 9)])
    data = make_spec().data.model_dump() | {"qa": QA.model_dump()}
    made = Pipeline(settings, source.folder, make_spec(data=data))
    made.run("r1")
    return made


def ledger(pipeline: Pipeline) -> Ledger:
    return Ledger(open_database(pipeline.settings.database_url))


def batch(pipeline: Pipeline) -> list[ReviewPair]:
    return choose_batch(pipeline.store, ledger(pipeline), pipeline.spec, QA)


def count(pipeline: Pipeline, pairs: Sequence[ReviewPair], *reviews: Reviewed, run: str = "review/1") -> ReviewOutcome:
    return settle(pipeline.store, ledger(pipeline), pipeline.spec, QA, run, pairs, reviews, at=AT)


def says(reviewer: str | None, pairs: Sequence[ReviewPair], *answers: str) -> Reviewed:
    named = zip(pairs, answers, strict=True)
    return Reviewed(reviewer=reviewer, answers={pair.name: Answer(answer) for pair, answer in named})


def clean(pipeline: Pipeline, run: str) -> set[str]:
    made = pipeline.run(run)
    return set(pipeline.dataset(made["dataset_version"]).table("questions")["question_id"].to_pylist())


def test_the_most_doubtful_pairs_are_shown_with_what_they_cite(pipeline: Pipeline) -> None:
    pairs = batch(pipeline)
    assert [pair.question for pair in pairs] == [f"What of case {n}?" for n in (4, 1, 2)]
    assert (pairs[0].answer, pairs[0].evidence) == ("Answer 4.", "Rule 1.")
    assert "confidence 0.50" in pairs[0].doubt and pairs[0].delivery == "2026-10-12"
    key = store_batch(pipeline.store, "review/1", pairs)
    assert read_batch(pipeline.store, key) == pairs


def test_what_reviewers_agree_to_be_right_is_released_and_passes_the_gate(pipeline: Pipeline) -> None:
    pairs = batch(pipeline)
    outcome = count(
        pipeline, pairs, says("ada", pairs, "right", "wrong", "right"), says("bob", pairs, "right", "wrong", "wrong")
    )
    assert (len(outcome.right), len(outcome.wrong), len(outcome.open)) == (1, 1, 1)
    assert outcome.agreement == pytest.approx(2 / 3, abs=1e-4) and outcome.reviewers == ["ada", "bob"]
    assert len(outcome.releases) == 1
    assert clean(pipeline, "r2") == {"q-004", "q-005", "q-006", "q-007", "q-008"}
    (entry,) = ledger(pipeline).entries(FAMILY, frozenset({Event.PAIRS_REVIEWED}))
    assert entry.record["wrong"] == outcome.wrong
    (release,) = ledger(pipeline).entries(FAMILY, frozenset({Event.ROWS_RELEASED}))
    assert release.actor.startswith("ada, bob (review") and release.record["waived"] == [NEEDS_REVIEW]


def test_no_answer_in_time_leaves_every_pair_in_quarantine_and_they_come_up_again(pipeline: Pipeline) -> None:
    pairs = batch(pipeline)
    outcome = count(pipeline, pairs, Reviewed(reviewer=None, answers={}), says("ada", pairs, "right", "right", "right"))
    assert (outcome.right, outcome.wrong, outcome.releases) == ([], [], [])
    assert batch(pipeline) == pairs
    assert clean(pipeline, "r2") == {"q-005", "q-006", "q-007", "q-008"}


def test_one_person_counts_once(pipeline: Pipeline) -> None:
    pairs = batch(pipeline)
    right = says("ada", pairs, "right", "right", "right")
    outcome = count(pipeline, pairs, right, right)
    assert outcome.right == [] and outcome.reviewers == ["ada"]


def test_settled_pairs_are_not_asked_about_again(pipeline: Pipeline) -> None:
    pairs = batch(pipeline)
    answers = ("right", "wrong", "unsure")
    count(pipeline, pairs, says("ada", pairs, *answers), says("bob", pairs, *answers))
    again = batch(pipeline)
    assert {pair.question for pair in again} == {"What of case 2?", "What of case 3?"}


def test_counting_twice_releases_once(pipeline: Pipeline) -> None:
    pairs = batch(pipeline)
    reviews = [says(name, pairs, "right", "right", "wrong") for name in ("ada", "bob")]
    count(pipeline, pairs, *reviews)
    count(pipeline, pairs, *reviews)
    assert len(ledger(pipeline).entries(FAMILY, frozenset({Event.ROWS_RELEASED}))) == 1
    assert len(ledger(pipeline).entries(FAMILY, frozenset({Event.PAIRS_REVIEWED}))) == 1


def test_answers_about_other_pairs_do_not_count(pipeline: Pipeline) -> None:
    pairs = batch(pipeline)
    strange = Reviewed(reviewer="eve", answers={"sample/2026-10-12/elsewhere": Answer.RIGHT})
    assert count(pipeline, pairs, strange).right == []


def test_nothing_waits(settings: Settings, source: Deliveries) -> None:
    pipeline = Pipeline(settings, source.folder)
    pipeline.run()
    assert choose_batch(pipeline.store, ledger(pipeline), pipeline.spec, QA) == []


def test_the_confidence_is_read_where_it_was_written() -> None:
    assert confidence_in(told(0.123, 0.9, 1.0, 1.0, ["x"])) == 0.12
    assert confidence_in("something else") == 0.5
