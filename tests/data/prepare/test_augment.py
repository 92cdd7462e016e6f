"""Changed copies of training rows: provenance, determinism, and that nothing else ever sees them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from include.data.datasets import open_dataset
from include.data.neighbours import normalised
from include.data.prepare.augment import augment
from include.errors import UserError
from include.settings import Settings
from include.spec.prepare import TRANSFORMS
from include.store.objects import open_store
from tests.data.conftest import FAMILY, Deliveries, Pipeline, ask, make_spec

from .test_prepared_dataset import DATA

TYPING = {"transform": "typing_errors", "table": "questions", "column": "question", "share": 1.0, "rate": 0.5}
PHRASING = {
    "transform": "phrasing", "table": "questions", "column": "question", "share": 0.5,
    "templates": ["Could you tell me: {text}", "A colleague asks: {text}"],
}  # fmt: skip
FOLDS = {"kind": "k_fold", "table": "questions", "by": "question_id", "folds": 3, "test": 0.25}


@pytest.fixture
def asked(tmp_path: Path) -> Deliveries:
    made = Deliveries(tmp_path / "asked")
    made.add(
        "2026-10-12", {"AA": ["Rule."]}, [ask(n, question=f"Which auditor inspects vault {n}?") for n in range(40)]
    )
    return made


def pipeline_of(settings: Settings, source: Deliveries, *steps: dict[str, Any], **spec: Any) -> Pipeline:
    return Pipeline(settings, source.folder, make_spec(data={**DATA, "prepare": list(steps)}, **spec))


def test_only_training_rows_have_copies_and_only_training_reads_them(settings: Settings, asked: Deliveries) -> None:
    pipeline = pipeline_of(settings, asked, TYPING, PHRASING)
    dataset = pipeline.dataset(pipeline.run()["dataset_version"])
    whole, train = dataset.table("questions"), dataset.table("questions", "train").to_pylist()
    assert whole.num_rows == dataset.manifest.tables["questions"].rows == 40
    copies = [row for row in train if row["augmented_from"]]
    originals = {row["question_id"]: row for row in train if not row["augmented_from"]}
    made = dataset.manifest.tables["questions"].augmented
    assert made is not None
    assert len(copies) == sum(made.copies.values()) > len(originals)
    assert {row["augmented_by"] for row in copies} == {"typing_errors", "phrasing"}
    for row in copies:
        origin = originals[row["augmented_from"]]
        assert row["question"] != origin["question"]
        assert (row["answer"], row["citations"], row["split"]) == (origin["answer"], origin["citations"], "train")
        assert row["question_id"] == f"{origin['question_id']}~{row['augmented_by']}"
    assert len({row["question_id"] for row in train}) == len(train)
    for name in ("validation", "test", None):
        assert set(dataset.table("questions", name).column("augmented_from").to_pylist()) == {None}


def test_a_fold_that_validates_lends_no_copies(settings: Settings, asked: Deliveries) -> None:
    pipeline = pipeline_of(settings, asked, PHRASING, split=FOLDS)
    version = pipeline.run()["dataset_version"]
    for fold in range(3):
        dataset = open_dataset(settings, FAMILY, version, fold)
        held = set(dataset.table("questions", "validation").column("question_id").to_pylist())
        held |= set(dataset.table("questions", "test").column("question_id").to_pylist())
        origins = set(dataset.table("questions", "train").column("augmented_from").to_pylist()) - {None}
        assert origins
        assert not origins & held


def test_the_same_again_is_the_same_and_another_seed_is_not(settings: Settings, asked: Deliveries) -> None:
    plain = pipeline_of(settings, asked).run("r0")
    first, second = (pipeline_of(settings, asked, TYPING).run(run) for run in ("r1", "r2"))
    assert first["dataset_version"] == second["dataset_version"] == "2.0.0"
    assert first["dataset_digest"] == second["dataset_digest"] != plain["dataset_digest"]
    other = pipeline_of(settings, asked, {**TYPING, "seed": 1}).run("r3")
    assert (other["dataset_version"], other["change"]["level"]) == ("2.0.1", "patch")


def test_the_manifest_tells_of_the_step(settings: Settings, asked: Deliveries) -> None:
    pipeline = pipeline_of(settings, asked, PHRASING)
    manifest = pipeline.dataset(pipeline.run()["dataset_version"]).manifest
    assert manifest.transformations[-1].name == "phrasing"
    assert manifest.transformations[-1].parameters["version"] == 1


def rows(texts: list[str], marks: list[str]) -> pa.Table:
    ids = [f"q-{number}" for number in range(len(texts))]
    table = {"question_id": ids, "question": texts, "digest": ids, "split": marks}
    return pa.table({**table, "delivered_on": [date(2026, 1, 1)] * len(ids)})


def made(settings: Settings, step: dict[str, Any], table: pa.Table) -> list[dict[str, Any]]:
    store = open_store(settings.store_url)
    result = augment(store, make_spec(data={**DATA, "prepare": [step]}), table, "question_id", "t")
    if result.key is None:
        return []
    copies: list[dict[str, Any]] = pa.parquet.read_table(pa.BufferReader(store.get(result.key))).to_pylist()
    return copies


def test_a_copy_that_another_side_has_is_left_out(settings: Settings) -> None:
    template = {**PHRASING, "share": 1.0, "templates": ["Please: {text}"]}
    table = rows(["who pays?", "who asks?", "Please - who PAYS"], ["train", "train", "test"])
    assert [row["augmented_from"] for row in made(settings, template, table)] == ["q-1"]


def test_a_copy_that_changes_nothing_is_left_out(settings: Settings) -> None:
    step = {"transform": "letter_case", "table": "questions", "column": "question", "share": 1.0}
    found = made(settings, step, rows(["who pays?", "WHO pays?"], ["train"] * 2))
    assert [(row["augmented_from"], row["question"]) for row in found] == [("q-1", "who pays?")]


def test_typing_errors_leave_numbers_and_short_words(settings: Settings) -> None:
    texts = [f"What must section 4.1.{n} say by 2026-11-02 to an auditor" for n in range(60)]
    copies = made(settings, TYPING, rows(texts, ["train"] * 60))
    assert len(copies) > 50
    for row in copies:
        before, after = texts[int(row["augmented_from"][2:])].split(), row["question"].split()
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            assert old == new or (old.isalpha() and len(old) > 3 and abs(len(old) - len(new)) <= 1 and new[0] == old[0])
        assert normalised(row["question"]) != normalised(texts[int(row["augmented_from"][2:])])


def test_the_share_is_held(settings: Settings) -> None:
    texts = [f"Which auditor inspects vault {n}" for n in range(1_000)]
    assert len(made(settings, {**PHRASING, "share": 0.3}, rows(texts, ["train"] * 1_000))) == pytest.approx(300, abs=50)


def test_what_is_no_text_cannot_be_copied(settings: Settings) -> None:
    with pytest.raises(UserError, match="'citations' is no column of text"):
        made(settings, {**TYPING, "column": "citations"}, rows(["a"], ["train"]))


def test_augmentations_are_for_the_table_that_is_split() -> None:
    with pytest.raises(ValidationError, match="its table must be 'questions'"):
        make_spec(data={**DATA, "prepare": [{**TYPING, "table": "passages", "column": "text"}]})
    with pytest.raises(ValidationError, match="a template must say something"):
        make_spec(data={**DATA, "prepare": [{**PHRASING, "templates": ["{text}"]}]})
    assert {"typing_errors", "letter_case", "phrasing"} < TRANSFORMS
