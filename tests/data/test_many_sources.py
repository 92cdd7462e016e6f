"""A family with several sources: every row keeps its own, and a version holds the deliveries of all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from include.data.catalogue import Catalogue
from include.data.quarantine import list_quarantine, quarantined_rows
from include.data.sources import count_new_rows, select_sources
from include.errors import DataError, UserError
from include.settings import Settings
from include.spec.splits import LeakageSpec
from include.store.database import open_database

from .conftest import FAMILY, Deliveries, Pipeline, ask, make_spec


def spec_of(folder: Path, **feedback: Any) -> Any:
    """Rules and questions of experts as the family's code reads them, and questions out of production as JSON lines."""
    columns = {"question_id": "id", "citations": "cited", "document_id": "doc"}
    sources = {
        "experts": {"role": "expert_annotations", "url": str(folder / "experts")},
        "live": {
            "role": "production_queries",
            "url": str(folder / "live"),
            "table": "questions",
            "columns": columns,
            **feedback,
        },
    }
    tables = {"passages": {"key": "passage_key"}, "questions": {"key": "question_id", "min_valid_rate": 0.5}}
    return make_spec(data={"suite": "compliance_qa", "tables": tables, "sources": sources})


def line(number: int, **changes: Any) -> dict[str, Any]:
    made = {"id": f"live-{number}", "question": f"Live {number}?", "answer": None, "cited": ["AA:AA-1.1"], "doc": "AA"}
    return made | changes


def deliver(folder: Path, name: str, *lines: Mapping[str, Any] | bytes) -> None:
    (folder / "live").mkdir(parents=True, exist_ok=True)
    made = [entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in lines]
    (folder / "live" / name).write_bytes(b"\n".join(made) + b"\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    experts = Deliveries(tmp_path / "experts")
    experts.add("2026-10-12", {"AA": ["Rule 1.", "Rule 2."]}, [ask(n) for n in range(4)])
    deliver(tmp_path, "queries-2026-10-12.jsonl", line(1), line(2), b"broken", line(1))
    deliver(tmp_path, "queries-2026-10-14.jsonl", line(3))
    return tmp_path


@pytest.fixture
def pipeline(settings: Settings, folder: Path) -> Pipeline:
    made = Pipeline(settings, "", spec_of(folder))
    made.source = None  # type: ignore[assignment]  # all declared sources
    return made


def rows(pipeline: Pipeline, version: str) -> dict[str, tuple[str, str]]:
    found = pipeline.dataset(version).table("questions").to_pylist()
    return {row["question_id"]: (row["source"], row["delivery"]) for row in found}


def test_a_version_holds_all_sources_and_every_row_its_own(pipeline: Pipeline) -> None:
    made = pipeline.run()
    found = rows(pipeline, made["dataset_version"])
    assert found["q-000"] == ("experts", "experts.2026-10-12")
    assert found["live-1"] == ("live", "live.2026-10-12")
    assert found["live-3"] == ("live", "live.2026-10-14")
    assert (made["rows_in"], made["rows_clean"], made["rows_quarantined"], made["rows_duplicate"]) == (11, 9, 1, 1)
    manifest = pipeline.dataset(made["dataset_version"]).manifest
    assert manifest.sources == {"experts": "expert_annotations", "live": "production_queries"}
    assert manifest.source == "declared"
    by_name = {delivery.delivery: delivery for delivery in manifest.deliveries}
    counts = by_name["live.2026-10-12"].tables["questions"]
    assert (counts.rows_in, counts.rows_clean, counts.rows_quarantined, counts.rows_duplicate) == (4, 2, 1, 1)


def test_each_source_has_its_watermark(pipeline: Pipeline) -> None:
    made = pipeline.step("ingest", {"run": "r", "source": None, "since": None, "until": None})
    assert made["watermarks"] == {"experts": "2026-10-12", "live": "2026-10-14"}


def test_a_run_may_look_at_one_source_and_the_version_keeps_the_others(pipeline: Pipeline, folder: Path) -> None:
    pipeline.run("r1")
    deliver(folder, "queries-2026-10-15.jsonl", line(4))
    Deliveries(folder / "experts").add("2026-10-14", {}, [ask(40)])
    pipeline.source = "live"
    made = pipeline.run("r2")
    found = rows(pipeline, made["dataset_version"])
    assert "live-4" in found
    assert "q-000" in found
    assert "q-040" not in found
    pipeline.source = None  # type: ignore[assignment]
    assert "q-040" in rows(pipeline, pipeline.run("r3")["dataset_version"])


def test_a_correction_that_was_taken_back_stays_so_while_others_are_read(pipeline: Pipeline, folder: Path) -> None:
    first = pipeline.run("r1")
    before = (folder / "live" / "queries-2026-10-14.jsonl").read_bytes()
    deliver(folder, "queries-2026-10-14.jsonl", line(33))
    pipeline.run("corrected")
    (folder / "live" / "queries-2026-10-14.jsonl").write_bytes(before)
    assert pipeline.run("taken back")["dataset_version"] == first["dataset_version"]
    pipeline.run("once more, so that it is the newest")
    Deliveries(folder / "experts").add("2026-10-14", {}, [ask(40)])
    pipeline.source = "experts"
    found = rows(pipeline, pipeline.run("r3")["dataset_version"])
    assert "q-040" in found
    assert "live-33" not in found


def test_a_key_that_another_source_brought_first_is_a_duplicate(pipeline: Pipeline, folder: Path) -> None:
    deliver(folder, "queries-2026-10-15.jsonl", line(9, id="q-001"), line(5))
    made = pipeline.run()
    assert made["rows_duplicate"] == 2
    assert rows(pipeline, made["dataset_version"])["q-001"][0] == "experts"


def test_a_source_with_a_new_role_is_a_major_version(pipeline: Pipeline, folder: Path) -> None:
    pipeline.source = "experts"
    assert pipeline.run("r1")["dataset_version"] == "1.0.0"
    pipeline.source = None  # type: ignore[assignment]
    made = pipeline.run("r2")
    assert made["change"] == {"level": "major", "reason": "new in source role: production_queries"}
    deliver(folder, "queries-2026-10-15.jsonl", line(6))
    assert pipeline.run("r3")["change"]["level"] != "major"


def test_a_source_that_is_declared_no_more_leaves_the_next_version(pipeline: Pipeline) -> None:
    pipeline.run("r1")
    sources = {"experts": pipeline.spec.data.sources["experts"]}
    data = pipeline.spec.data.model_copy(update={"sources": sources})
    pipeline.spec = pipeline.spec.model_copy(update={"data": data})
    assert {source for source, _ in rows(pipeline, pipeline.run("r2")["dataset_version"]).values()} == {"experts"}


def test_another_mapping_reads_the_same_files_again(pipeline: Pipeline, folder: Path) -> None:
    deliver(folder, "queries-2026-10-15.jsonl", line(7, text="From another field?"))
    assert pipeline.run("r1")["new"]
    columns = {"question_id": "id", "citations": "cited", "document_id": "doc", "answer": "text"}
    pipeline.spec = spec_of(folder, columns=columns)
    version = pipeline.run("r2")["dataset_version"]
    found = {row["question_id"]: row["answer"] for row in pipeline.dataset(version).table("questions").to_pylist()}
    assert found["live-7"] == "From another field?"


class TestLateDeliveries:
    def late(self, pipeline: Pipeline, folder: Path) -> dict[str, Any]:
        pipeline.run("r1")
        deliver(folder, "queries-2026-10-13.jsonl", line(80), b"broken too")
        return pipeline.run("r2")

    def test_they_are_accepted_by_default(self, pipeline: Pipeline, folder: Path) -> None:
        made = self.late(pipeline, folder)
        assert "live-80" in rows(pipeline, made["dataset_version"])

    def test_or_kept_in_quarantine_without_stopping_the_run(self, pipeline: Pipeline, folder: Path) -> None:
        pipeline.spec = spec_of(folder, late="quarantine")
        made = self.late(pipeline, folder)
        assert made["reasons"]["late"] == 2
        assert made["rows_in"] == made["rows_clean"] + made["rows_quarantined"] + made["rows_duplicate"]
        assert "live-80" not in rows(pipeline, made["dataset_version"])
        entry = next(e for e in list_quarantine(pipeline.store, FAMILY) if e.delivery == "live.2026-10-13")
        held = list(quarantined_rows(pipeline.store, entry.key))
        assert {row.reasons[0] for row in held} == {"late"}
        assert json.loads(held[0].values)["question_id"] == "live-80"
        again = pipeline.run("r3")
        assert (again["dataset_version"], again["new"]) == (made["dataset_version"], False)

    def test_a_first_run_and_a_correction_are_never_late(self, pipeline: Pipeline, folder: Path) -> None:
        pipeline.spec = spec_of(folder, late="quarantine")
        assert "late" not in pipeline.run("r1")["reasons"]
        deliver(folder, "queries-2026-10-12.jsonl", line(1), line(22))
        made = pipeline.run("r2")
        assert "late" not in made["reasons"]
        assert "live-22" in rows(pipeline, made["dataset_version"])


class TestFilesOfADeclaredSource:
    def names(self, pipeline: Pipeline) -> list[str]:
        made = pipeline.step("ingest", {"run": "r", "source": "live", "since": None, "until": None})
        return [entry["delivery"] for entry in made["deliveries"] if entry["delivery"].startswith("live")]

    def test_files_of_one_day_are_one_delivery_and_others_are_left_out(self, pipeline: Pipeline, folder: Path) -> None:
        deliver(folder, "20261014-more.jsonl", line(30))
        deliver(folder, "notes.md", b"no data")
        deliver(folder, ".hidden-2026-10-20.jsonl", line(31))
        assert self.names(pipeline) == ["live.2026-10-12", "live.2026-10-14"]

    def test_a_file_without_a_date_is_of_the_day_of_its_change_or_of_the_spec(
        self, pipeline: Pipeline, folder: Path
    ) -> None:
        deliver(folder, "the rest.jsonl", line(32))
        os.utime(folder / "live" / "the rest.jsonl", (0, 1_760_000_000))  # 2025-10-09
        assert self.names(pipeline) == ["live.the-rest", "live.2026-10-12", "live.2026-10-14"]
        pipeline.spec = spec_of(folder, delivered_on="2027-01-01")
        assert self.names(pipeline)[-1] == "live.the-rest"


def test_what_waits_is_counted_over_all_sources(settings: Settings, pipeline: Pipeline, folder: Path) -> None:
    assert count_new_rows(settings, pipeline.spec, None) == 11
    assert count_new_rows(settings, pipeline.spec, "live") == 5
    pipeline.step("ingest", {"run": "r", "source": "live", "since": None, "until": None})
    assert count_new_rows(settings, pipeline.spec, None) == 6


def test_the_catalogue_knows_the_source_of_a_delivery(settings: Settings, pipeline: Pipeline) -> None:
    pipeline.run()
    catalogue = Catalogue(open_database(settings.database_url))
    assert catalogue.names(FAMILY, "live") == {"live.2026-10-12", "live.2026-10-14"}


@pytest.fixture
def exports(settings: Settings, tmp_path: Path) -> Pipeline:
    """Two tables out of files of one folder, which the spec expects elsewhere."""
    rule = {"passage_key": "AA:AA-1.1", "document_id": "AA", "passage_id": "AA-1.1", "heading": "", "text": "Rule 1."}
    (tmp_path / "rules-2026-10-12.jsonl").write_text(json.dumps(rule) + "\n")
    deliver(tmp_path, "queries-2026-10-12.jsonl", line(1), line(2))
    (tmp_path / "live" / "queries-2026-10-12.jsonl").rename(tmp_path / "queries-2026-10-12.jsonl")
    spec = spec_of(tmp_path)
    live = spec.data.sources["live"].model_copy(update={"url": "data/none", "files": "queries*"})
    rules = live.model_copy(update={"table": "passages", "files": "rules*", "columns": {}})
    data = spec.data.model_copy(update={"sources": {"rules": rules, "live": live}})
    return Pipeline(settings, tmp_path, spec.model_copy(update={"data": data}))


def test_another_place_stands_for_all_sources_that_the_spec_finds_at_one(exports: Pipeline) -> None:
    made = exports.run()
    assert (made["rows_in"], made["rows_clean"]) == (3, 3)
    deliveries = exports.dataset(made["dataset_version"]).manifest.deliveries
    assert [delivery.delivery.rpartition(".")[0].partition(".")[2] for delivery in deliveries] == ["live", "rules"]
    assert exports.run("again")["dataset_version"] == made["dataset_version"]


def test_a_split_table_without_a_row_is_an_error_that_says_so(exports: Pipeline) -> None:
    folder = Path(str(exports.source))
    (folder / "queries-2026-10-12.jsonl").rename(folder / "queries-2026-10-14.jsonl")
    leaks = exports.spec.split.model_copy(update={"leakage": LeakageSpec(text=["question"])})
    exports.spec = exports.spec.model_copy(update={"split": leaks})
    with pytest.raises(DataError, match="no clean row in 'questions'"):
        exports.run(until="2026-10-13")


def test_a_place_with_a_password_is_refused_and_not_repeated(folder: Path) -> None:
    for place in (
        "https://me:hunter22@host/x.csv",
        "https://host/x.csv?token=hunter22",
        "postgresql://me:hunter22@h/d",
    ):
        with pytest.raises(UserError, match="connection") as caught:
            select_sources(spec_of(folder), place)
        assert "hunter22" not in str(caught.value)
