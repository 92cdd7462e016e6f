"""The suite of compliance_qa: one faulty row for every expectation."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from include.data.rows import key_marks
from include.expectations.known import Known
from include.families.compliance_qa.schema import SCHEMAS


def found(table: str, *changes: dict[str, Any]) -> list[list[str]]:
    """Reasons of a good row and of that row with each of the changes."""
    from include.expectations import compliance_qa
    from include.expectations.gate import run_suite

    good: dict[str, Any] = {
        "passages": {
            "passage_key": "AA:1",
            "document_id": "AA",
            "passage_id": "1",
            "heading": "",
            "text": "Some text.",
        },
        "questions": {
            "question_id": "q",
            "question": "Who?",
            "answer": "You.",
            "citations": ["AA:1"],
            "document_id": "AA",
        },
    }[table]
    records = [good, *(good | change for change in changes)]
    rows = pa.Table.from_pylist(records, pa.schema([field.with_nullable(True) for field in SCHEMAS[table]]))
    known = Known()
    known.add("passages", key_marks(pa.array(["AA:1"])), key_marks(pa.array(["content"])))
    outcome = run_suite("compliance_qa", compliance_qa.suite(table), compliance_qa.prepare(table, rows, known))
    return [outcome.reasons.get(number, []) for number in range(len(records))]


def test_passages() -> None:
    assert found(
        "passages",
        {"text": " \n"},
        {"text": "the regulatorâ€™s"},
        {"heading": "lost \ufffd"},
        {"text": "x" * 200_001},
        {"passage_key": ":1"},
        {"text": "write to office@example.com"},
    ) == [
        [],
        ["empty_passage"],
        ["wrong_encoding"],
        ["wrong_encoding"],
        ["passage_too_long"],
        ["wrong_key"],
        [],
    ]


def test_questions() -> None:
    assert found(
        "questions",
        {"question_id": " "},
        {"question": ""},
        {"question": "x" * 4_001},
        {"answer": " "},
        {"answer": "x" * 20_001},
        {"answer": None},
        {"citations": []},
        {"citations": ["AA:1", "AA:2"]},
        {"question": "call 555-0142?"},
        {"answer": "mail me@example.com"},
        {"answer": "cafÃ©"},
    ) == [
        [],
        ["missing_key"],
        ["empty_question"],
        ["question_too_long"],
        ["empty_answer"],
        ["answer_too_long"],
        [],
        ["missing_citation"],
        ["unknown_passage"],
        ["personal_data"],
        ["personal_data"],
        ["wrong_encoding"],
    ]


def test_a_row_with_several_faults_has_several_reasons() -> None:
    assert found("questions", {"question": "mail me@example.com", "answer": "", "citations": ["BB:9"]})[1] == [
        "empty_answer",
        "unknown_passage",
        "personal_data",
    ]


@pytest.mark.parametrize("table", ["passages", "questions"])
def test_an_empty_table(table: str) -> None:
    from include.expectations import compliance_qa

    rows = SCHEMAS[table].empty_table()
    assert compliance_qa.prepare(table, rows, Known()).num_rows == 0
