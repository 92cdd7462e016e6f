"""Steps in the pipeline: before the gate, into the dataset and its manifest; what is unfit goes to quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.data.quarantine import list_quarantine, quarantined_rows
from include.errors import UserError
from include.settings import Settings
from include.spec.load import SpecError, parse_spec
from tests.data.conftest import FAMILY, Deliveries, Pipeline, ask, make_spec

DATA = {
    "suite": "compliance_qa",
    "tables": {
        "passages": {"key": "passage_key", "min_valid_rate": 0.9},
        "questions": {"key": "question_id", "min_valid_rate": 0.1},
    },
}
MASK = {"transform": "mask_personal_data", "table": "questions", "columns": ["question", "answer"]}
LENGTH = {"transform": "text_length", "table": "questions", "column": "question", "into": "question_length"}


def pipeline_of(settings: Settings, source: Deliveries, *steps: dict[str, Any]) -> Pipeline:
    return Pipeline(settings, source.folder, make_spec(data={**DATA, "prepare": list(steps)}))


@pytest.fixture
def asked(tmp_path: Path) -> Deliveries:
    made = Deliveries(tmp_path / "asked")
    questions = [ask(n) for n in range(6)]
    questions.append(ask(10, question="Call me on 555-0142?"))
    questions.append(ask(11, question="Mail me at a@desk.example.com", answer=""))
    questions += [ask(12, answer="by 2026-11-02"), ask(13, answer="2026-11-02")]
    made.add("2026-10-12", {"AA": ["Rule."]}, questions)
    return made


def questions(pipeline: Pipeline, version: str) -> dict[str, dict[str, Any]]:
    return {row["question_id"]: row for row in pipeline.dataset(version).table("questions").to_pylist()}


def test_masked_rows_pass_the_gate_that_would_have_kept_them_out(settings: Settings, asked: Deliveries) -> None:
    before = pipeline_of(settings, asked).run("r1")
    assert before["reasons"] == {"empty_answer": 1, "personal_data": 2}
    pipeline = pipeline_of(settings, asked, MASK)
    made = pipeline.run("r2")
    assert made["reasons"] == {"empty_answer": 1}
    assert questions(pipeline, made["dataset_version"])["q-010"]["question"] == "Call me on [phone]?"


def test_what_a_step_masks_is_not_in_the_quarantine_either(settings: Settings, asked: Deliveries) -> None:
    pipeline = pipeline_of(settings, asked, MASK, LENGTH)
    pipeline.run()
    (row,) = quarantined_rows(pipeline.store, list_quarantine(pipeline.store, FAMILY)[0].key)
    values = json.loads(row.values)
    assert values["question"] == "Mail me at [email]"
    assert "question_length" not in values, "a person mends what was delivered"


def test_a_row_that_a_step_cannot_handle_is_quarantined_with_its_name(settings: Settings, asked: Deliveries) -> None:
    dates = {"transform": "date_parts", "table": "questions", "column": "answer", "parts": ["year", "month"]}
    pipeline = pipeline_of(settings, asked, dates)
    made = pipeline.run()
    assert made["rows_in"] == made["rows_clean"] + made["rows_quarantined"] == 11
    assert made["reasons"] == {"date_parts": 9}
    assert questions(pipeline, made["dataset_version"])["q-013"]["answer_month"] == 11
    rows = quarantined_rows(pipeline.store, list_quarantine(pipeline.store, FAMILY)[0].key)
    assert {row.detail for row in rows} == {"answer is no ISO 8601 date"}


def test_the_manifest_tells_steps_versions_and_counts(settings: Settings, asked: Deliveries) -> None:
    pipeline = pipeline_of(settings, asked, MASK, LENGTH)
    manifest = pipeline.dataset(pipeline.run()["dataset_version"]).manifest
    steps = {step.name: step.parameters for step in manifest.transformations}
    assert steps["mask_personal_data"]["version"] == 1
    assert steps["text_length"]["into"] == "question_length"
    assert [step.name for step in manifest.transformations][:4] == [
        "read", "mask_personal_data", "text_length", "validate",
    ]  # fmt: skip
    assert manifest.deliveries[0].prepared == {"questions": {"mask_personal_data": 2, "text_length": 10}}
    assert "question_length: int64" in manifest.tables["questions"].columns


def test_another_step_is_another_version(settings: Settings, asked: Deliveries) -> None:
    first = pipeline_of(settings, asked).run("r1")
    longer = pipeline_of(settings, asked, LENGTH).run("r2")
    assert (longer["dataset_version"], longer["change"]["level"]) == ("2.0.0", "major")
    assert "added questions.question_length" in longer["change"]["reason"]
    words = pipeline_of(settings, asked, {**LENGTH, "unit": "words"})
    third = words.run("r3")
    assert third["dataset_version"] == "2.0.1"
    assert questions(words, "2.0.1")["q-000"]["question_length"] == 4
    again = pipeline_of(settings, asked)
    last = again.run("r4")
    assert last["dataset_digest"] == first["dataset_digest"]
    assert "question_length" not in questions(again, last["dataset_version"])["q-000"]
    assert questions(words, "2.0.0")["q-000"]["question_length"] == 15


def test_the_same_steps_are_the_same_version(settings: Settings, asked: Deliveries) -> None:
    pipeline = pipeline_of(settings, asked, MASK, LENGTH)
    first, second = pipeline.run("r1"), pipeline.run("r2")
    assert {**second, "new": True} == first


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({**LENGTH, "column": "wording"}, "no column 'wording'"),
        ({**LENGTH, "into": "answer"}, "two columns 'answer'"),
        ({**MASK, "columns": ["citations"]}, r"'citations' holds list.*no text"),
        ({"transform": "blank", "table": "questions", "columns": ["question"]}, "'question' must have a value"),
    ],
)
def test_a_step_that_does_not_fit_the_table(
    settings: Settings, asked: Deliveries, step: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        pipeline_of(settings, asked, step).run()


def test_a_mistake_in_the_file_has_its_line(tmp_path: Path) -> None:
    text = Path("include/families/compliance_qa/family.yaml").read_text()
    wrong = "  prepare:\n    - {transform: text_length, table: questions, column: question, unit: pages, into: n}\n"
    path = tmp_path / "compliance_qa" / "family.yaml"
    path.parent.mkdir()
    path.write_text(text.replace("  suite: compliance_qa\n", "  suite: compliance_qa\n" + wrong))
    with pytest.raises(SpecError, match=r"data\.prepare\.0\.unit"):
        parse_spec(path)
