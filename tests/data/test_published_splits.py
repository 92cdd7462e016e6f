"""Divisions as they are published, stored and read: near-duplicates kept together, folds, refusals."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from include.data.datasets import latest_version, open_dataset
from include.data.leakage import LeakageError
from include.data.manifest import Manifest
from include.data.splits import split_of
from include.errors import UserError
from include.settings import Settings
from include.spec import parse_params, resolve_spec
from include.spec.splits import SplitSpec
from tests.conftest import SHARED_DATA

from .conftest import FAMILY, Deliveries, Pipeline, ask, make_spec

OBLIQA = SHARED_DATA / "compliance_qa" / "obliqa"
SPLIT = {"table": "questions", "by": "question_id", "train": 0.6, "validation": 0.2, "test": 0.2}
TEXT = {"text": ["question"], "threshold": 0.7}
WORDS = [f"w{number:04d}" for number in range(800)]


def wording(number: int) -> str:
    return " ".join(random.Random(number).choices(WORDS, k=12))


def pipeline_of(settings: Settings, source: Deliveries, **split: Any) -> Pipeline:
    return Pipeline(settings, source.folder, make_spec(split=SPLIT | split))


def marks(pipeline: Pipeline, version: str) -> dict[str, str]:
    rows = pipeline.dataset(version).table("questions").select(["question_id", "split"]).to_pydict()
    return dict(zip(rows["question_id"], rows["split"], strict=True))


@pytest.fixture
def reworded(tmp_path: Any) -> Deliveries:
    """30 questions; a week later ten of them again in nearly the same words."""
    made = Deliveries(tmp_path / "questions")
    made.add("2026-10-12", {"AA": ["Rule."]}, [ask(n, question=f"{wording(n)} ask") for n in range(30)])
    made.add("2026-10-19", {}, [ask(100 + n, question=f"{wording(n)} tell") for n in range(10)])
    return made


class TestNearDuplicates:
    def test_they_are_read_on_the_side_of_the_first(self, settings: Settings, reworded: Deliveries) -> None:
        pipeline = pipeline_of(settings, reworded, leakage=TEXT)
        made = pipeline.run()
        found = marks(pipeline, made["dataset_version"])
        assert [found[f"q-{100 + n}"] for n in range(10)] == [found[f"q-{n:03d}"] for n in range(10)]
        dataset = pipeline.dataset(made["dataset_version"])
        for name in ("train", "validation", "test"):
            read = dataset.table("questions", name)
            assert set(read.column("question_id").to_pylist()) == {key for key, mark in found.items() if mark == name}
            assert dataset.manifest.tables["questions"].splits[name] == read.num_rows

    def test_the_manifest_tells_what_was_found(self, settings: Settings, reworded: Deliveries) -> None:
        made = pipeline_of(settings, reworded, leakage=TEXT).run()
        manifest = json.loads(Pipeline(settings, "").store.get(made["manifest_key"]))
        report = manifest["division"]["leakage"]
        assert (report["rows"], report["near"], report["clusters"], report["crossing"]) == (40, 10, 10, 0)
        split = SplitSpec.model_validate(SPLIT)
        apart = sum(split_of(split, f"q-{n:03d}") != split_of(split, f"q-{100 + n}") for n in range(10))
        assert report["apart"] == apart > 0
        assert manifest["split"].endswith("near-duplicates of question together from 0.7")

    def test_rows_stay_where_they_were_when_a_delivery_comes(self, settings: Settings, reworded: Deliveries) -> None:
        pipeline = pipeline_of(settings, reworded, leakage=TEXT)
        first = marks(pipeline, pipeline.run("w1", "2026-10-12", "2026-10-13")["dataset_version"])
        second = marks(pipeline, pipeline.run("w2", "2026-10-19", "2026-10-20")["dataset_version"])
        assert first.items() <= second.items()
        assert len(second) == 40
        assert marks(pipeline, "1.0.0") == first

    def test_a_refusal_names_no_version(self, settings: Settings, reworded: Deliveries) -> None:
        pipeline = pipeline_of(settings, reworded, leakage={**TEXT, "near_duplicates": "refuse"})
        with pytest.raises(LeakageError, match="nearly the same question"):
            pipeline.run()
        assert latest_version(settings, FAMILY) is None

    def test_another_threshold_is_another_division(self, settings: Settings, reworded: Deliveries) -> None:
        pipeline_of(settings, reworded).run("r1")
        made = pipeline_of(settings, reworded, leakage=TEXT).run("r2")
        assert made["dataset_version"] == "2.0.0"
        assert "divided otherwise" in made["change"]["reason"]

    def test_the_same_again_is_the_same_version(self, settings: Settings, reworded: Deliveries) -> None:
        pipeline = pipeline_of(settings, reworded, leakage=TEXT)
        first, second = pipeline.run("r1"), pipeline.run("r2")
        assert {**second, "new": True} == first


class TestFolds:
    def test_every_fold_is_read_from_one_version(self, settings: Settings, reworded: Deliveries) -> None:
        shares = {"kind": "k_fold", "train": 0, "validation": 0, "test": 0.2, "folds": 3}
        pipeline = pipeline_of(settings, reworded, **shares)
        version = pipeline.run()["dataset_version"]
        seen: list[str] = []
        for fold in range(3):
            dataset = open_dataset(settings, FAMILY, version, fold)
            sides = [set(dataset.table("questions", side).column("question_id").to_pylist()) for side in SIDES]
            assert sum(map(len, sides)) == len(set.union(*sides)) == 40
            seen += sides[1]
        test = set(pipeline.dataset(version).table("questions", "test").column("question_id").to_pylist())
        assert len(seen) == len(set(seen)) == 40 - len(test)
        with pytest.raises(UserError, match="no fold 3"):
            open_dataset(settings, FAMILY, version, 3)
        with pytest.raises(UserError, match="no split 'tset'") as caught:
            pipeline.dataset(version).table("questions", "tset")
        assert "fold_2" in caught.value.hint

    def test_a_time_series_is_read_by_its_last_window(self, settings: Settings, tmp_path: Any) -> None:
        source = Deliveries(tmp_path / "weekly")
        for week in range(8):
            documents = {"AA": ["Rule."]} if week == 0 else {}
            questions = [ask(week * 10 + n, question=wording(week * 10 + n)) for n in range(5)]
            source.add(f"2026-10-{week * 3 + 1:02d}", documents, questions)
        shares = {"kind": "time_series", "by": "delivered_on", "train": 0.5, "validation": 0.25, "test": 0.25}
        pipeline = pipeline_of(settings, source, **shares, folds=2)
        version = pipeline.run()["dataset_version"]
        dataset = pipeline.dataset(version)
        days = {side: dataset.table("questions", side).column("delivered_on").to_pylist() for side in SIDES}
        assert max(days["train"]) < min(days["validation"]) <= max(days["validation"]) < min(days["test"])
        assert len(days["train"]) == 25
        assert dataset.manifest.division.cuts == ["2026-10-13", "2026-10-16", "2026-10-19"]
        assert open_dataset(settings, FAMILY, version, 0).table("questions", "train").num_rows == 20

    def test_a_run_that_asks_for_a_fold_that_is_not_there(self) -> None:
        with pytest.raises(UserError, match="has no fold 2: its split is hold_out"):
            resolve_spec(FAMILY, parse_params({"fold": 2}))


SIDES = ("train", "validation", "test")


def test_manifests_of_before_can_be_read(settings: Settings, reworded: Deliveries) -> None:
    pipeline = pipeline_of(settings, reworded)
    record = json.loads(pipeline.store.get(pipeline.run()["manifest_key"]))
    del record["division"]
    for table in record["tables"].values():
        del table["marks_key"]
    assert Manifest.model_validate(record).division.folds == 1


@pytest.mark.slow
@pytest.mark.skipif(not OBLIQA.is_dir(), reason="the shared ObliQA set is not here")
def test_obliqa_has_pairs_that_the_hash_alone_would_part(settings: Settings) -> None:
    """25 pairs of questions that reword each other, 12 of which stood on two sides."""
    pipeline = Pipeline(settings, OBLIQA, resolve_spec(FAMILY, parse_params({"profile": "obliqa"})))
    report = pipeline.dataset(pipeline.run()["dataset_version"]).manifest.division.leakage
    assert report is not None
    assert (report.near, report.apart, report.crossing) == (25, 12, 0)
