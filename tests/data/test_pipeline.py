"""From deliveries to a dataset version: every row accounted for, and the same work done twice changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from include.data.catalogue import Catalogue
from include.data.datasets import latest_version, list_versions
from include.data.manifest import Manifest
from include.data.quarantine import list_quarantine, quarantined_rows
from include.data.records import DeliveryCheck
from include.data.sources import source_id
from include.errors import DataError, UserError
from include.expectations import compliance_qa
from include.expectations.suites import suite_digest
from include.release.ledger import Event, Ledger
from include.steps.fingerprint import fingerprint
from include.store.database import open_database

from .conftest import FAMILY, Deliveries, Pipeline, ask, make_spec


def ids(pipeline: Pipeline, version: str, table: str = "questions", key: str = "question_id") -> list[str]:
    return pipeline.dataset(version).table(table).column(key).to_pylist()


class TestWholeSource:
    def test_every_record_is_clean_or_in_quarantine_with_its_reason(self, pipeline: Pipeline) -> None:
        made = pipeline.run()
        assert made["dataset_version"] == "1.0.0"
        assert made["new"]
        assert (made["rows_in"], made["rows_clean"], made["rows_quarantined"], made["rows_duplicate"]) == (38, 30, 6, 2)
        assert made["reasons"] == {
            "duplicate": 2,
            "empty_answer": 1,
            "malformed_json": 1,
            "missing_citation": 1,
            "not_utf8": 1,
            "personal_data": 1,
            "unknown_passage": 1,
        }

    def test_the_quarantine_tells_place_reason_and_values(self, pipeline: Pipeline) -> None:
        pipeline.run()
        first, second = list_quarantine(pipeline.store, FAMILY)
        assert (first.delivery, first.rows, first.passed) == ("2026-10-12", 6, True)
        assert (second.delivery, second.rows) == ("2026-10-19", 2)
        rows = {row.place: row for row in quarantined_rows(pipeline.store, first.key)}
        assert rows["2026-10-12/questions.jsonl:11"].reasons == ["duplicate"]
        assert rows["2026-10-12/questions.jsonl:14"].reasons == ["not_utf8"]
        assert rows["2026-10-12/questions.jsonl:14"].values.startswith('{"question_id": "q-022"')
        assert rows["2026-10-12/questions.jsonl:12"].key == "q-020"
        assert json.loads(rows["2026-10-12/questions.jsonl:12"].values)["citations"] == ["AA:AA-1.9"]
        assert [row.key for row in quarantined_rows(pipeline.store, first.key, "personal_data")] == ["q-024"]

    def test_clean_rows_carry_where_they_came_from(self, pipeline: Pipeline) -> None:
        version = pipeline.run()["dataset_version"]
        row = pipeline.dataset(version).table("questions").to_pylist()[-1]
        assert row["question_id"] == "q-035"
        assert row["citations"] == ["CC:CC-1.1", "BB:BB-1.1"]
        assert (row["delivery"], row["delivered_on"].isoformat()) == ("2026-10-19", "2026-10-19")
        assert row["source"].startswith("source-")
        assert len(row["digest"]) == 32

    def test_splits_are_disjoint_and_complete(self, pipeline: Pipeline) -> None:
        dataset = pipeline.dataset(pipeline.run()["dataset_version"])
        parts = [
            set(dataset.table("questions", name).column("question_id").to_pylist())
            for name in ("train", "validation", "test")
        ]
        assert sum(len(part) for part in parts) == len(set.union(*parts)) == 16
        assert dataset.manifest.tables["questions"].splits["train"] == len(parts[0])
        with pytest.raises(UserError, match="is not split"):
            dataset.table("passages", "train")
        with pytest.raises(UserError, match="no table 'answers'"):
            dataset.table("answers")

    def test_the_manifest_accounts_for_all_deliveries(self, pipeline: Pipeline) -> None:
        made = pipeline.run()
        manifest = json.loads(pipeline.store.get(made["manifest_key"]))
        assert manifest["digest"] == made["dataset_digest"]
        assert manifest["totals"]["rows_in"] == 38
        assert [entry["delivery"] for entry in manifest["deliveries"]] == ["2026-10-12", "2026-10-19"]
        assert manifest["change"]["level"] == "first"
        assert manifest["tables"]["questions"]["rows"] == 16
        assert manifest["suite"] == "compliance_qa"

    def test_the_manifest_says_how_the_rows_were_made(self, pipeline: Pipeline) -> None:
        made = pipeline.run()
        manifest = Manifest.model_validate_json(pipeline.store.get(made["manifest_key"]))
        assert [step.name for step in manifest.transformations] == ["read", "validate", "deduplicate", "split"]
        split = manifest.transformations[-1]
        assert split.parameters["seed"] == 3
        assert manifest.domains == {"document_id": ["AA", "CC"]}
        assert manifest.software.keys() == {"deltalake", "great-expectations", "pandas", "pyarrow"}
        for delivery in manifest.deliveries:
            assert (delivery.suite, delivery.suite_version) == ("compliance_qa", compliance_qa.VERSION)
            assert delivery.suite_digest == suite_digest(compliance_qa)
            check = DeliveryCheck.model_validate_json(pipeline.store.get(delivery.check_key))
            assert delivery.check_digest == fingerprint(check=check.model_dump(mode="json", exclude={"checked_at"}))
            assert check.tables["questions"].expectations

    def test_data_docs_show_what_was_checked(self, pipeline: Pipeline) -> None:
        given = {"run": "r", "source": pipeline.source, "since": None, "until": None}
        deliveries = pipeline.step("ingest", given)["deliveries"]
        docs = pipeline.store.get(pipeline.step("validate", {"deliveries": deliveries})["docs_key"]).decode()
        for word in (
            "2026-10-19",
            "unknown_passage",
            "at least one passage is cited",
            "questions.jsonl:12",
            "not_utf8",
        ):
            assert word in docs
        assert "http" not in docs

    def test_the_ledger_tells_of_the_version_once(self, pipeline: Pipeline) -> None:
        pipeline.run("r1")
        pipeline.run("r2")
        entries = Ledger(open_database(pipeline.settings.database_url)).entries(FAMILY)
        assert [(entry.event, entry.actor) for entry in entries] == [(Event.DATASET_PUBLISHED, "r1")]
        assert entries[0].record["dataset_version"] == "1.0.0"


class TestRepeating:
    def test_the_same_interval_twice_changes_nothing(self, pipeline: Pipeline) -> None:
        first = pipeline.run("r1")
        keys = set(pipeline.store.keys("raw/")) | set(pipeline.store.keys("datasets/"))
        second = pipeline.run("r2")
        assert {**second, "new": True} == first
        assert not second["new"]
        assert set(pipeline.store.keys("raw/")) | set(pipeline.store.keys("datasets/")) == keys

    def test_intervals_one_by_one_come_to_the_same_content(self, pipeline: Pipeline, tmp_path: Path) -> None:
        first = pipeline.run("w1", "2026-10-06", "2026-10-13")
        second = pipeline.run("w2", "2026-10-13", "2026-10-20")
        assert (first["dataset_version"], second["dataset_version"]) == ("1.0.0", "2.0.0")
        assert second["change"] == {"level": "major", "reason": "new in document_id: CC"}
        assert (first["rows_in"], second["rows_in"]) == (26, 12)
        again = pipeline.run("w1 again", "2026-10-06", "2026-10-13")
        assert (again["dataset_version"], again["new"]) == ("2.0.0", False)
        whole = pipeline.run("all")
        assert (whole["dataset_version"], whole["dataset_digest"]) == ("2.0.0", second["dataset_digest"])

    def test_an_old_version_can_still_be_read(self, pipeline: Pipeline) -> None:
        pipeline.run("w1", "2026-10-06", "2026-10-13")
        pipeline.run("w2", "2026-10-13", "2026-10-20")
        assert len(ids(pipeline, "1.0.0")) == 10
        assert len(ids(pipeline, "2.0.0")) == 16
        assert set(ids(pipeline, "1.0.0")) < set(ids(pipeline, "2.0.0"))

    def test_intervals_out_of_order_lose_nothing(self, pipeline: Pipeline) -> None:
        later = pipeline.run("w2", "2026-10-13", "2026-10-20")
        assert later["rows_in"] == 12
        assert later["reasons"] == {"duplicate": 1, "missing_citation": 1}
        assert len(ids(pipeline, later["dataset_version"])) == 16  # what it cites came along
        earlier = pipeline.run("w1", "2026-10-06", "2026-10-13")
        assert earlier["dataset_digest"] == later["dataset_digest"]

    def test_a_late_delivery_is_picked_up_by_the_next_run(self, pipeline: Pipeline, source: Deliveries) -> None:
        pipeline.run("w2", "2026-10-13", "2026-10-20")
        source.add("2026-10-15", {}, [ask(50, "AA-1.1")])
        source.add("2026-10-26", {}, [ask(60, "AA-1.1")])
        made = pipeline.run("w3", "2026-10-20", "2026-10-27")
        assert made["rows_in"] == 1
        assert {"q-050", "q-060"} <= set(ids(pipeline, made["dataset_version"]))

    def test_a_delivery_is_not_read_again(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        first = pipeline.run("r1")
        monkeypatch.setattr("include.data.ingest.write_batch", lambda *_: pytest.fail("read again"))
        assert pipeline.run("r2")["dataset_digest"] == first["dataset_digest"]

    def test_a_delivery_that_left_the_source_is_taken_from_the_catalogue(
        self, pipeline: Pipeline, source: Deliveries
    ) -> None:
        first = pipeline.run("r1")
        (source.folder / "2026-10-12").rename(source.folder.parent / "archived")
        assert pipeline.run("r2")["dataset_digest"] == first["dataset_digest"]

    def test_a_raw_batch_that_the_store_lost_is_made_again(self, pipeline: Pipeline) -> None:
        first = pipeline.run("r1")
        for key in [*pipeline.store.keys("raw/"), *pipeline.store.keys("checked/")]:
            pipeline.store.delete(key)
        assert pipeline.run("r2")["dataset_digest"] == first["dataset_digest"]

    def test_duplicates_of_an_earlier_delivery_stay_out(self, pipeline: Pipeline) -> None:
        dataset = pipeline.dataset(pipeline.run()["dataset_version"])
        keys = dataset.table("questions").column("question_id").to_pylist()
        assert keys.count("q-001") == 1
        assert len(keys) == len(set(keys))

    def test_the_same_values_under_another_key_are_a_duplicate(self, pipeline: Pipeline, source: Deliveries) -> None:
        source.add("2026-10-26", {}, [ask(3, "AA-1.4", question_id="q-777"), ask(70)])
        made = pipeline.run()
        assert made["reasons"]["duplicate"] == 3
        assert "q-777" not in ids(pipeline, made["dataset_version"])

    def test_a_row_from_quarantine_may_come_back_mended(self, pipeline: Pipeline, source: Deliveries) -> None:
        source.add("2026-10-26", {}, [ask(21, answer="Now with an answer.")])
        assert "q-021" in ids(pipeline, pipeline.run()["dataset_version"])

    def test_duplicates_do_not_stop_a_run(self, pipeline: Pipeline, source: Deliveries) -> None:
        source.add("2026-10-26", {}, [ask(1, "AA-1.2")] * 40 + [ask(80)])
        made = pipeline.run()
        assert made["reasons"]["duplicate"] == 42
        assert made["rows_duplicate"] == 42
        assert made["rows_in"] == made["rows_clean"] + made["rows_quarantined"] + made["rows_duplicate"]


class TestCorrections:
    def test_a_delivery_with_new_content_takes_the_place_of_the_old(
        self, pipeline: Pipeline, source: Deliveries
    ) -> None:
        first = pipeline.run("r1")
        source.add("2026-10-19", {"CC": ["Rule 0 of CC."]}, [ask(30, "CC-1.1", answer="Corrected.")])
        second = pipeline.run("r2")
        rows = {
            row["question_id"]: row
            for row in pipeline.dataset(second["dataset_version"]).table("questions").to_pylist()
        }
        assert rows["q-030"]["answer"] == "Corrected."
        assert "q-031" not in rows
        assert len(ids(pipeline, first["dataset_version"])) == 16  # as it was
        assert second["dataset_version"] == "1.1.0"
        assert [
            entry["delivery"] for entry in json.loads(pipeline.store.get(second["manifest_key"]))["deliveries"]
        ] == [
            "2026-10-12",
            "2026-10-19",
        ]

    def test_a_correction_that_is_taken_back_is_the_old_version_again(
        self, pipeline: Pipeline, source: Deliveries
    ) -> None:
        first = pipeline.run("r1")
        before = (source.folder / "2026-10-19" / "questions.jsonl").read_bytes()
        source.add("2026-10-19", {}, [ask(99)])
        assert pipeline.run("r2")["dataset_version"] != first["dataset_version"]
        (source.folder / "2026-10-19" / "questions.jsonl").write_bytes(before)
        third = pipeline.run("r3")
        assert (third["dataset_version"], third["new"]) == (first["dataset_version"], False)
        assert latest_version(pipeline.settings, FAMILY) == "1.1.0"

    def test_a_key_in_two_deliveries_is_never_published(self, pipeline: Pipeline, source: Deliveries) -> None:
        pipeline.run("r1")
        source.add("2026-10-12", {"AA": ["a"], "BB": list("bcdef")}, [ask(1), ask(30, answer="Earlier than before.")])
        with pytest.raises(DataError, match="in two deliveries") as caught:
            pipeline.run("only the first", "2026-10-06", "2026-10-13")
        assert "q-030" in str(caught.value)
        made = pipeline.run("both")
        assert Counter(ids(pipeline, made["dataset_version"]))["q-030"] == 1

    def test_another_split_is_a_major_version(self, pipeline: Pipeline) -> None:
        pipeline.run("r1")
        split = pipeline.spec.split.model_copy(update={"seed": 8})
        pipeline.spec = pipeline.spec.model_copy(update={"split": split})
        made = pipeline.run("r2")
        assert (made["dataset_version"], made["change"]["level"]) == ("2.0.0", "major")
        assert len(set(ids(pipeline, "2.0.0"))) == len(ids(pipeline, "2.0.0")) == 16

    def test_another_source_is_a_major_version_and_the_old_one_is_kept(
        self, pipeline: Pipeline, tmp_path: Path
    ) -> None:
        first = pipeline.run("r1")
        other = Deliveries(tmp_path / "other")
        other.add("2026-09-01", {"ZZ": ["z"]}, [ask(1, "ZZ-1.1")])
        mixed = Pipeline(pipeline.settings, other.folder)
        assert mixed.run("r2")["dataset_version"] == "2.0.0"
        assert ids(pipeline, "2.0.0") == ["q-001"]
        again = pipeline.run("r3")
        assert (again["dataset_version"], again["dataset_digest"]) == ("1.0.0", first["dataset_digest"])


class TestIntervals:
    @pytest.mark.parametrize(
        ("since", "until", "expected"),
        [
            (None, None, ["2026-10-12", "2026-10-19"]),
            ("2026-10-12", "2026-10-19", ["2026-10-12"]),
            ("2026-10-13", None, ["2026-10-19"]),
            (None, "2026-10-12", []),
            ("2026-10-19T00:00:00+00:00", "2026-10-26T03:00:00+00:00", ["2026-10-19"]),
        ],
    )
    def test_since_is_in_and_until_is_out(
        self, pipeline: Pipeline, since: str | None, until: str | None, expected: list[str]
    ) -> None:
        made = pipeline.step("ingest", {"run": "r", "source": pipeline.source, "since": since, "until": until})
        assert [entry["delivery"] for entry in made["deliveries"]] == expected

    def test_the_watermark_is_the_newest_day_that_was_ingested(self, pipeline: Pipeline) -> None:
        given = {"run": "r", "source": pipeline.source, "since": None, "until": "2026-10-13"}
        name = source_id(pipeline.source)
        assert pipeline.step("ingest", given)["watermarks"] == {name: "2026-10-12"}
        assert pipeline.step("ingest", {**given, "until": None})["watermarks"] == {name: "2026-10-19"}
        assert pipeline.step("ingest", given)["watermarks"] == {name: "2026-10-19"}

    @pytest.mark.parametrize(
        ("since", "until"), [("2026-13-01", None), ("yesterday", None), ("2026-10-19", "2026-10-12")]
    )
    def test_what_is_no_interval_is_the_users_error(self, pipeline: Pipeline, since: str, until: str | None) -> None:
        with pytest.raises(UserError, match=r"not a date|is after"):
            pipeline.run("r", since, until)

    def test_an_interval_without_deliveries_gives_the_version_that_is_there(self, pipeline: Pipeline) -> None:
        pipeline.run("r1")
        made = pipeline.run("r2", "2027-01-01", "2027-01-08")
        assert (made["dataset_version"], made["new"], made["rows_in"]) == ("1.0.0", False, 0)

    def test_nothing_to_publish_is_a_data_error(self, pipeline: Pipeline) -> None:
        with pytest.raises(DataError, match="no delivery to publish") as caught:
            pipeline.run(
                "r1",
                "2027-01-01",
                "2027-01-08",
            )
        assert "interval" in caught.value.hint or "since" in caught.value.hint


class TestGate:
    def stopped(self, pipeline: Pipeline, source: Deliveries, questions: list[object]) -> DataError:
        source.add("2026-10-26", {}, questions)
        with pytest.raises(DataError, match="too few valid rows") as caught:
            pipeline.run("bad")
        return caught.value

    def test_a_bad_table_stops_the_run_and_says_why(self, pipeline: Pipeline, source: Deliveries) -> None:
        pipeline.run("good")
        bad: list[object] = [ask(n, answer="") for n in range(50, 58)] + [ask(60, "QQ-1.1"), ask(61), ask(62)]
        error = self.stopped(pipeline, source, bad)
        assert "questions of delivery 2026-10-26: 9 of 11 rows failed, 18.2% valid where 50% is needed" in error.message
        assert "empty_answer 8 (such as 2026-10-26/questions.jsonl:1)" in error.message
        assert error.fields["failed"][0]["reasons"] == {"empty_answer": 8, "unknown_passage": 1}
        assert "min_valid_rate" in error.hint
        assert [entry.version for entry in list_versions(pipeline.settings, FAMILY)] == ["1.0.0"]

    def test_the_rows_that_stopped_it_can_be_looked_at(self, pipeline: Pipeline, source: Deliveries) -> None:
        error = self.stopped(pipeline, source, [ask(n, answer="") for n in range(50, 58)])
        failed = [entry for entry in list_quarantine(pipeline.store, FAMILY) if not entry.passed]
        assert pipeline.store.uri(failed[0].key) == error.where
        assert len(list(quarantined_rows(pipeline.store, failed[0].key))) == 8

    def test_all_rows_bad(self, settings: Any, tmp_path: Path) -> None:
        made = Deliveries(tmp_path / "bad")
        made.add("2026-10-12", {"AA": ["", " ", "\n"]}, [ask(n, answer=" ") for n in range(5)])
        with pytest.raises(DataError, match=r"3 of 3 rows failed, 0\.0% valid"):
            Pipeline(settings, made.folder).run()

    def test_a_repeated_run_is_stopped_again(self, pipeline: Pipeline, source: Deliveries) -> None:
        first = self.stopped(pipeline, source, [ask(n, answer="") for n in range(50, 58)])
        with pytest.raises(DataError) as caught:
            pipeline.run("again")
        assert caught.value.message == first.message

    def test_a_bad_delivery_of_before_the_interval_is_left_out(self, pipeline: Pipeline, source: Deliveries) -> None:
        self.stopped(pipeline, source, [ask(n, answer="") for n in range(50, 58)] + [ask(70)])
        source.add("2026-11-02", {}, [ask(71), ask(70)])
        made = pipeline.run("next", "2026-10-27", "2026-11-03")
        assert "q-071" in ids(pipeline, made["dataset_version"])
        assert Counter(ids(pipeline, made["dataset_version"]))["q-070"] == 1
        assert made["rows_quarantined"] == 0

    def test_a_mended_delivery_passes(self, pipeline: Pipeline, source: Deliveries) -> None:
        self.stopped(pipeline, source, [ask(n, answer="") for n in range(50, 58)])
        source.add("2026-10-26", {}, [ask(n) for n in range(50, 58)])
        assert "q-057" in ids(pipeline, pipeline.run("mended")["dataset_version"])

    def test_an_unknown_suite_is_the_users_error(self, pipeline: Pipeline) -> None:
        data = pipeline.spec.data.model_copy(update={"suite": "no_such_suite"})
        pipeline.spec = pipeline.spec.model_copy(update={"data": data})
        with pytest.raises(UserError, match="no suite 'no_such_suite'"):
            pipeline.run()

    def test_a_table_that_the_code_does_not_make_is_the_users_error(self, pipeline: Pipeline) -> None:
        tables = {"questions": {"key": "question_id"}, "rules": {"key": "id"}}
        pipeline.spec = make_spec(data={"suite": "compliance_qa", "tables": tables})
        with pytest.raises(UserError, match="rules"):
            pipeline.run()


def test_a_delivery_that_changes_while_it_is_read_is_not_kept(
    pipeline: Pipeline, source: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.data import ingest as module
    from include.families.compliance_qa import dated

    def growing(delivery: Any, limit: int) -> Any:
        yield from original(delivery, limit)
        with (source.folder / delivery.name / "questions.jsonl").open("ab") as file:
            file.write(json.dumps(ask(500)).encode() + b"\n")

    original = dated.records
    monkeypatch.setattr(dated, "records", growing)
    with pytest.raises(module.SourceChanged):
        pipeline.run()
    assert not [key for key in pipeline.store.keys("raw/") if key.endswith("batch.json")]
    assert Catalogue(open_database(pipeline.settings.database_url)).watermark(FAMILY, "source") is None
    monkeypatch.setattr(dated, "records", original)
    made = pipeline.run()
    assert "q-500" in ids(pipeline, made["dataset_version"])


def test_rows_come_in_the_order_of_their_key(pipeline: Pipeline) -> None:
    table = pipeline.dataset(pipeline.run()["dataset_version"]).table("questions")
    assert pc.all(pc.greater(table.column("question_id")[1:], table.column("question_id")[:-1])).as_py()


def test_a_version_that_does_not_exist(pipeline: Pipeline) -> None:
    assert latest_version(pipeline.settings, FAMILY) is None
    with pytest.raises(UserError, match="no dataset version"):
        pipeline.dataset("9.9.9")
