"""Pairs in the gate: corrupted answers among the sample's are held back, others pass, and people have the last word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from include.data.qa.gate import NEEDS_REVIEW, REASONS, UNSOUND
from include.data.quarantine import QuarantinedRow, find_quarantine, quarantined_rows
from include.data.readmit import Wish, release
from include.data.records import DeliveryCheck, PairReport
from include.release.ledger import Ledger
from include.settings import PROJECT_ROOT, Settings
from include.spec import load_family
from include.store.database import open_database
from tests.data.conftest import FAMILY, Deliveries, Pipeline

DAY = "2026-10-12"
SAMPLE = PROJECT_ROOT / "include" / "families" / FAMILY / "sample" / "deliveries" / DAY
SWAPPED, RENUMBERED = 20, 20


@dataclass(frozen=True)
class Judged:
    """The first delivery of the sample: some answers swapped, some numbers changed, some answers taken away."""

    pipeline: Pipeline
    made: dict[str, Any]
    swapped: set[str]
    renumbered: set[str]
    silent: set[str]

    @property
    def held(self) -> dict[str, QuarantinedRow]:
        entry = find_quarantine(self.pipeline.store, FAMILY, DAY)
        rows = quarantined_rows(self.pipeline.store, entry.key)
        return {str(row.key): row for row in rows if set(row.reasons) & set(REASONS)}

    @property
    def report(self) -> PairReport:
        (key,) = [key for key in self.pipeline.store.keys("checked/") if key.endswith("check.json") and DAY in key]
        found = DeliveryCheck.model_validate_json(self.pipeline.store.get(key)).tables["questions"].pairs
        assert found is not None
        return found


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    folder = tmp_path_factory.mktemp("judged")
    target = folder / "source" / DAY
    (target / "documents").mkdir(parents=True)
    for path in (SAMPLE / "documents").iterdir():
        (target / "documents" / path.name).write_bytes(path.read_bytes())
    rows = [json.loads(line) for line in (SAMPLE / "questions.jsonl").read_bytes().splitlines() if _parses(line)]
    whole = [row for row in rows if (row["answer"] or "").strip() and len(row["citations"]) == 1]
    swapped, renumbered, silent = whole[: SWAPPED * 5 : 5], [], whole[1:16:5]
    answers = [row["answer"] for row in swapped]
    for row, answer in zip(swapped, [*answers[1:], answers[0]], strict=True):
        row["answer"] = answer
    for row in whole[2::5]:
        if " 30 " in row["answer"] and len(renumbered) < RENUMBERED:
            row["answer"] = row["answer"].replace(" 30 ", " 37 ", 1)
            renumbered.append(row)
    for row in silent:
        row["answer"] = None
    (target / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    environment = {"WINDTUNNEL_HOME": str(folder / "home"), "WINDTUNNEL_PROFILE": "default"}
    pipeline = Pipeline(Settings.from_env(environment), folder / "source", load_family(FAMILY))
    yield Judged(
        pipeline, pipeline.run(), *(({row["question_id"] for row in some}) for some in (swapped, renumbered, silent))
    )
    open_database.cache_clear()


def _parses(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


@pytest.mark.slow
class TestSample:
    def test_answers_of_other_questions_are_held_back(self, judged: Judged) -> None:
        assert len(judged.swapped & set(judged.held)) >= 0.9 * SWAPPED

    def test_numbers_that_the_passage_does_not_have_are_held_back_and_named(self, judged: Judged) -> None:
        held = judged.renumbered & set(judged.held)
        assert judged.renumbered and len(held) >= 0.5 * len(judged.renumbered)
        assert any("the number 37" in judged.held[key].detail for key in held)

    def test_nearly_all_others_pass(self, judged: Judged) -> None:
        wrongly = set(judged.held) - judged.swapped - judged.renumbered
        assert len(wrongly) <= 0.05 * judged.report.judged
        assert not [key for key in wrongly if judged.held[key].reasons == [UNSOUND]]

    def test_answers_that_are_not_there_are_counted_and_pass(self, judged: Judged) -> None:
        assert judged.report.without_answer == len(judged.silent) > 0
        kept = judged.pipeline.dataset(judged.made["dataset_version"]).table("questions")["question_id"].to_pylist()
        assert judged.silent <= set(kept)

    def test_the_classifiers_say_how_good_they_are(self, judged: Judged) -> None:
        report = judged.report
        whole = report.classifiers["confidence"]
        assert 0.9 < whole.low < whole.auc < whole.high <= 1.0
        assert all(whole.auc > score.auc for name, score in report.classifiers.items() if name != "confidence")
        assert report.sound_passed > 0.9 and report.caught["other_answer"] > 0.75
        assert report.uncertain + report.bad == len(judged.held)
        store = judged.pipeline.store
        (key,) = [key for key in store.keys(f"steps/{FAMILY}/validate/") if key.endswith("docs/index.html")]
        page = store.get(key)
        assert f"{whole.auc:.3f}".encode() in page and b"other_answer" in page

    def test_people_have_the_last_word(self, judged: Judged) -> None:
        pipeline, key = judged.pipeline, sorted(judged.swapped & set(judged.held))[0]
        entry = find_quarantine(pipeline.store, FAMILY, DAY)
        wish = Wish(frozenset(judged.held[key].reasons), frozenset({key}), None, "Ada", "it is right")
        ledger = Ledger(open_database(pipeline.settings.database_url))
        at = datetime(2026, 10, 20, tzinfo=UTC)
        outcome = release(pipeline.store, ledger, pipeline.spec, entry, wish, binding=(), at=at)
        manifest = pipeline.dataset(pipeline.run("r2")["dataset_version"]).manifest
        waived = {delivery.delivery: delivery.waived for delivery in manifest.deliveries}
        assert waived[str(outcome.name)] == {judged.held[key].reasons[0]: 1}


def test_too_few_pairs_are_not_judged_and_the_docs_say_so(
    settings: Settings, source: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(settings, source.folder, load_family(FAMILY))
    tables = {name: {"key": table.key, "min_valid_rate": 0.5} for name, table in pipeline.spec.data.tables.items()}
    data = pipeline.spec.data.model_dump() | {"tables": tables}
    pipeline.spec = pipeline.spec.model_copy(update={"data": type(pipeline.spec.data).model_validate(data)})
    made = pipeline.run()
    assert NEEDS_REVIEW not in made["reasons"] and UNSOUND not in made["reasons"]
    assert "none judged, as there are fewer than 150 to learn from" in capsys.readouterr().out
