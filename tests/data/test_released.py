"""Rows come out of quarantine as a delivery of their own, once, with a story, and through the same gate."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from include.data.batches import stream_parquet
from include.data.mended import export_rows, read_mended
from include.data.quarantine import find_quarantine, quarantined_rows
from include.data.readmit import Outcome, Wish, release
from include.data.released import list_releases, read_release
from include.errors import UserError
from include.expectations import compliance_qa
from include.release.ledger import Event, Ledger
from include.store.database import open_database

from .conftest import FAMILY, Deliveries, Pipeline

AT = datetime(2026, 10, 20, 8, 0, tzinfo=UTC)
FIRST = "2026-10-12"


def ledger(pipeline: Pipeline) -> Ledger:
    return Ledger(open_database(pipeline.settings.database_url))


def let_go(pipeline: Pipeline, delivery: str = FIRST, **changes: Any) -> Outcome:
    values: dict[str, Any] = {"waive": frozenset(), "places": frozenset(), "mended": None, "by": "Ada", "why": "looked"}
    return release(
        pipeline.store,
        ledger(pipeline),
        pipeline.spec,
        find_quarantine(pipeline.store, FAMILY, delivery),
        Wish(**values | changes),
        binding=compliance_qa.BINDING,
        at=AT,
    )


def mend(pipeline: Pipeline, path: Path, changes: dict[str, dict[str, Any]], delivery: str = FIRST) -> Outcome:
    """Exports a quarantine, changes the rows with these keys as a person would, and releases the file."""
    entry = find_quarantine(pipeline.store, FAMILY, delivery)
    export_rows(quarantined_rows(pipeline.store, entry.key), path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["values"]:
            line["values"] |= changes.get(line["values"]["question_id"], {})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return let_go(pipeline, delivery, mended=read_mended(path))


def questions(pipeline: Pipeline, version: str) -> dict[str, dict[str, Any]]:
    rows = pipeline.dataset(version).table("questions").to_pylist()
    return {row["question_id"]: row for row in rows}


def test_a_waiver_admits_the_row_as_it_came_and_only_that_row(pipeline: Pipeline, source: Deliveries) -> None:
    before = pipeline.run("r1")
    outcome = let_go(pipeline, waive=frozenset({"personal_data"}))
    assert (outcome.released, outcome.new) == (1, True)
    source.add("2026-10-26", {}, [{**_row("q-070"), "question": "Ring 555-0199?"}, _row("q-071")])
    made = pipeline.run("r2")
    found = questions(pipeline, made["dataset_version"])
    assert found["q-024"]["question"] == "Call me on 555-0142?"
    assert (found["q-024"]["source"], found["q-024"]["delivery"]) == ("release", outcome.name)
    assert found["q-024"]["delivered_on"] == AT.date()
    assert "q-070" not in found
    assert made["rows_clean"] == before["rows_clean"] + 2


def test_the_manifest_and_the_ledger_tell_of_the_waiver(pipeline: Pipeline) -> None:
    pipeline.run("r1")
    outcome = let_go(pipeline, waive=frozenset({"personal_data"}), why="the test line of the telephone company")
    manifest = pipeline.dataset(pipeline.run("r2")["dataset_version"]).manifest
    waived = {delivery.delivery: delivery.waived for delivery in manifest.deliveries}
    assert waived == {FIRST: {}, "2026-10-19": {}, outcome.name: {"personal_data": 1}}
    (entry,) = ledger(pipeline).entries(FAMILY, frozenset({Event.ROWS_RELEASED}))
    assert (entry.actor, entry.at, entry.record["why"]) == ("Ada", AT, "the test line of the telephone company")
    assert (entry.record["from"], entry.record["rows"], entry.record["waived"]) == (FIRST, 1, ["personal_data"])
    (row,) = read_release(pipeline.store, entry.record["batch_key"]).rows
    assert (row.place, row.reasons, row.mended) == (f"{FIRST}/questions.jsonl:16", ["personal_data"], False)


def test_a_mended_row_is_admitted_and_one_that_still_fails_goes_back(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.run("r1")
    changes = {"q-021": {"answer": "Now there is one."}, "q-020": {"citations": ["AA:AA-1.77"]}}
    outcome = mend(pipeline, tmp_path / "rows.jsonl", changes)
    assert (outcome.released, outcome.unchanged) == (2, 2)  # the duplicate and the personal data are as they were
    made = pipeline.run("r2")
    found = questions(pipeline, made["dataset_version"])
    assert found["q-021"]["answer"] == "Now there is one." and "q-020" not in found
    assert outcome.name is not None
    back = find_quarantine(pipeline.store, FAMILY, outcome.name)
    assert (back.rows, back.reasons, back.passed) == (1, {"unknown_passage": 1}, True)
    again = mend(pipeline, tmp_path / "again.jsonl", {"q-020": {"citations": ["AA:AA-1.1"]}}, outcome.name)
    assert "q-020" in questions(pipeline, pipeline.run("r3")["dataset_version"])
    assert again.released == 1
    origin = find_quarantine(pipeline.store, FAMILY, FIRST).source
    assert [known.source for known in list_releases(ledger(pipeline), FAMILY)] == [origin, origin]


def test_a_row_that_could_not_be_parsed_is_written_anew(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.run("r1")
    path = tmp_path / "rows.jsonl"
    entry = find_quarantine(pipeline.store, FAMILY, FIRST)
    export_rows(quarantined_rows(pipeline.store, entry.key, "not_utf8"), path)
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert line["values"] is None and "caf" in line["raw"]
    assert read_mended(path) == []
    line["values"] = _row("q-022")
    path.write_text(json.dumps(line))
    assert let_go(pipeline, mended=read_mended(path)).released == 1
    assert "q-022" in questions(pipeline, pipeline.run("r2")["dataset_version"])


def test_releasing_twice_does_nothing_twice(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.run("r1")
    first = let_go(pipeline, waive=frozenset({"personal_data"}))
    made = pipeline.run("r2")
    second = let_go(pipeline, waive=frozenset({"personal_data"}), by="Bob")
    assert (second.name, second.repeated, second.new) == (None, 1, False)
    assert [known.by for known in list_releases(ledger(pipeline), FAMILY)] == ["Ada"]
    assert pipeline.run("r3")["dataset_digest"] == made["dataset_digest"]
    changes = {"q-024": {"question": "Whom do I call?"}, "q-021": {"answer": "Yes."}}
    third = mend(pipeline, tmp_path / "rows.jsonl", changes)
    assert third.released == 2 and third.name != first.name
    final = pipeline.run("r4")
    assert questions(pipeline, final["dataset_version"])["q-024"]["question"] == "Call me on 555-0142?"
    assert find_quarantine(pipeline.store, FAMILY, str(third.name)).reasons == {"duplicate": 1}


def test_a_release_that_died_before_the_ledger_does_not_count_and_can_be_made_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pipeline.run("r1")

    def die(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", die)
        with pytest.raises(KeyboardInterrupt):
            let_go(pipeline, waive=frozenset({"personal_data"}))
    assert pipeline.run("r2")["dataset_digest"] == made["dataset_digest"]
    assert let_go(pipeline, waive=frozenset({"personal_data"})).new
    assert "q-024" in questions(pipeline, pipeline.run("r3")["dataset_version"])


def test_a_backfill_of_days_before_the_release_does_not_see_it(pipeline: Pipeline) -> None:
    made = pipeline.run("r1", until="2026-10-20")
    let_go(pipeline, waive=frozenset({"personal_data"}))
    assert pipeline.run("r2", until="2026-10-20")["dataset_digest"] == made["dataset_digest"]
    assert pipeline.run("r3", until="2026-10-21")["dataset_digest"] != made["dataset_digest"]


def test_a_release_is_no_older_than_the_delivery_that_the_rows_came_with(pipeline: Pipeline) -> None:
    pipeline.run("r1")
    entry = find_quarantine(pipeline.store, FAMILY, FIRST)
    wish = Wish(frozenset({"personal_data"}), frozenset(), None, "Ada", "early")
    early = datetime(2020, 1, 1, tzinfo=UTC)
    release(pipeline.store, ledger(pipeline), pipeline.spec, entry, wish, binding=(), at=early)
    (known,) = list_releases(ledger(pipeline), FAMILY)
    assert (known.delivered_on, known.at) == (date(2026, 10, 12), early)


class TestRefused:
    @pytest.mark.parametrize("reason", ["duplicate", "unknown_passage"])
    def test_what_later_steps_rely_on_cannot_be_waived(self, pipeline: Pipeline, reason: str) -> None:
        pipeline.run("r1")
        with pytest.raises(UserError, match=f"no waiver lifts {reason}"):
            let_go(pipeline, waive=frozenset({reason}))

    def test_a_row_with_another_reason_is_not_waived_along(self, pipeline: Pipeline) -> None:
        pipeline.run("r1")
        with pytest.raises(UserError, match="for empty_answer as well"):
            let_go(pipeline, waive=frozenset({"personal_data"}), places=frozenset({"q-021"}))

    def test_a_row_that_is_not_there_is_named(self, pipeline: Pipeline) -> None:
        pipeline.run("r1")
        with pytest.raises(UserError, match="q-999"):
            let_go(pipeline, waive=frozenset({"personal_data"}), places=frozenset({"q-999"}))

    def test_a_row_that_could_not_be_parsed_cannot_go_as_it_is(self, pipeline: Pipeline) -> None:
        pipeline.run("r1")
        with pytest.raises(UserError, match="could not be parsed"):
            let_go(pipeline, waive=frozenset({"malformed_json"}))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"answer": 5}, "wrong type"),
            ({"citations": "AA-1.1"}, "wrong type"),
            ({"colour": "red"}, "unknown 'colour'"),
            ({"question": None}, "null is not allowed in question"),
        ],
    )
    def test_wrong_values_are_told_with_the_line(
        self, pipeline: Pipeline, tmp_path: Path, values: dict[str, Any], message: str
    ) -> None:
        pipeline.run("r1")
        with pytest.raises(UserError, match=message) as caught:
            mend(pipeline, tmp_path / "rows.jsonl", {"q-021": values})
        assert "rows.jsonl:" in caught.value.where
        assert list_releases(ledger(pipeline), FAMILY) == []

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "not JSON"),
            ("[]", "not a row"),
            ('{"table": "questions", "place": "x", "values": []}', "must be an object"),
            ('{"table": "questions", "place": "x", "values": {}}\n' * 2, "twice"),
        ],
    )
    def test_a_broken_file_is_told(self, tmp_path: Path, line: str, message: str) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text(line)
        with pytest.raises(UserError, match=message):
            read_mended(path)

    def test_a_file_is_not_written_over(self, tmp_path: Path) -> None:
        (tmp_path / "rows.jsonl").write_text("mine")
        with pytest.raises(UserError, match="there already"):
            export_rows([], tmp_path / "rows.jsonl")


def test_personal_data_is_masked_in_quarantine(pipeline: Pipeline, source: Deliveries) -> None:
    source.add("2026-10-26", {}, [b'{"question": "I am ada@example.org', *(_row(f"q-{n}") for n in range(80, 83))])
    pipeline.run("r1")
    (row,) = quarantined_rows(pipeline.store, find_quarantine(pipeline.store, FAMILY, FIRST).key, "personal_data")
    assert json.loads(row.values)["question"] == "Call me on [phone]?"
    for key in [*pipeline.store.keys("checked/"), *pipeline.store.keys("steps/")]:
        whole = key.endswith(".parquet")
        text = (
            str([batch.to_pylist() for batch in stream_parquet(pipeline.store, key)])
            if whole
            else pipeline.store.get(key).decode()
        )
        assert "555-0142" not in text and "ada@example.org" not in text, key


def _row(key: str) -> dict[str, Any]:
    values = {"question_id": key, "question": f"What of {key}?", "answer": "This."}
    return {**values, "citations": ["AA:AA-1.1"], "document_id": "AA"}
