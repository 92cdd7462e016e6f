"""PolicyQA: passages, questions, and answers that must stand where the file says."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from include.errors import DataError
from include.families.compliance_qa.data_part import DataPart
from include.families.contract import RawRecord

POLICYQA = Path(__file__).resolve().parents[3] / "shared" / "data" / "compliance_qa" / "policyqa"
PASSAGE = "We never sell your data. We may share it with carriers."


def question(name: str = "q1", text: str = "We never sell", start: int = 0, **changes: Any) -> dict[str, Any]:
    made = {"id": name, "question": "Do you sell?", "type": "t", "answers": [{"text": text, "answer_start": start}]}
    return made | changes


def paragraph(*questions: Any, **changes: Any) -> dict[str, Any]:
    return {"index": 7, "context": PASSAGE, "qas": list(questions), "summary": []} | changes


def read(folder: Path, *paragraphs: Any, limit: int = 10_000, **document: Any) -> list[RawRecord]:
    value = {"version": "1", "data": [{"title": "shop.com", "paragraphs": list(paragraphs)} | document]}
    (folder / "dev.json").write_text(json.dumps(value))
    part = DataPart()
    return [record for delivery in part.deliveries(folder, "auto") for record in part.records(delivery, limit)]


def test_paragraphs_become_passages_and_spans_answers(tmp_path: Path) -> None:
    second = {"text": "carriers", "answer_start": 46}
    asked = question(answers=[{"text": "We may share it", "answer_start": 25}, second])
    passage, found = read(tmp_path, paragraph(asked))
    assert (passage.table, passage.place) == ("passages", "dev.json:document 1 paragraph 1")
    assert passage.values == {
        "passage_key": "shop.com:7",
        "document_id": "shop.com",
        "passage_id": "7",
        "heading": "",
        "text": PASSAGE,
    }
    assert (found.table, found.place) == ("questions", "dev.json:document 1 paragraph 1 question 1")
    assert found.values == {
        "question_id": "q1",
        "question": "Do you sell?",
        "answer": "We may share it",
        "citations": ["shop.com:7"],
        "document_id": "shop.com",
    }


def test_a_question_without_an_answer_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, paragraph(question(answers=[])))[1].values["answer"] is None


def test_a_paragraph_without_an_index_is_numbered(tmp_path: Path) -> None:
    plain = {"context": "Two.", "qas": []}
    assert [record.values["passage_key"] for record in read(tmp_path, plain, plain)] == ["shop.com:0", "shop.com:1"]


@pytest.mark.parametrize(
    ("text", "start", "detail"),
    [
        ("We never sell", 1, "at 1 the passage has 'e never sell '; the answer starts at 0"),
        ("We always sell", 0, "at 0 the passage has 'We never sell '; the answer is nowhere in the passage"),
        ("carriers.", 900, "at 900 the passage has ''; the answer starts at 46"),
    ],
)
def test_an_answer_that_does_not_stand_where_it_should_is_told(
    tmp_path: Path, text: str, start: int, detail: str
) -> None:
    passage, good, bad = read(tmp_path, paragraph(question("good"), question("bad", text, start)))
    assert (passage.problem, good.problem) == (None, None)
    assert (bad.table, bad.problem, bad.detail, dict(bad.values)) == ("questions", "wrong_span", detail, {})
    assert "'bad'" in bad.raw


def test_every_answer_of_a_question_is_checked(tmp_path: Path) -> None:
    answers = [{"text": "We never sell", "answer_start": 0}, {"text": "sell", "answer_start": 0}]
    assert read(tmp_path, paragraph(question(answers=answers)))[1].problem == "wrong_span"


@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        question(id=5),
        question(question=None),
        question(answers=None),
        question(answers=["x"]),
        question(answers=[{"text": "We"}]),
        question(answers=[{"text": "We", "answer_start": -1}]),
        question(answers=[{"text": "We", "answer_start": True}]),
        question(question="half \ud83d"),
    ],
)
def test_a_broken_question_does_not_hide_its_neighbours(tmp_path: Path, wrong: object) -> None:
    assert [record.problem for record in read(tmp_path, paragraph(wrong, question()))] == [None, "wrong_schema", None]


def test_questions_of_a_broken_passage_are_accounted_for(tmp_path: Path) -> None:
    found = read(
        tmp_path, paragraph(question(), context=None), "x", paragraph(question(), qas={}), paragraph(question())
    )
    assert [(record.table, record.problem) for record in found] == [
        ("passages", "wrong_schema"),
        ("passages", "wrong_schema"),
        ("passages", "wrong_schema"),
        ("passages", None),
        ("questions", "unknown_passage"),
        ("questions", None),
    ]
    assert found[-2].detail == "its passage cannot be used: 'context' must be text, not NoneType"


def test_a_passage_beyond_the_limit_is_not_used(tmp_path: Path) -> None:
    assert [record.problem for record in read(tmp_path, paragraph(question()), limit=20)] == [
        "too_long",
        "unknown_passage",
    ]


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": []}', '{"data": [{"paragraphs": []}]}', '{"data": ["x"]}'])
def test_another_layout_is_refused_with_its_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "dev.json").write_text(content)
    part = DataPart()
    with pytest.raises(DataError) as caught:
        list(part.records(part.deliveries(tmp_path, "policyqa")[0], 1000))
    assert "dev.json" in caught.value.where


@pytest.mark.skipif(not POLICYQA.is_dir(), reason="the shared PolicyQA set is not here")
def test_the_real_set_has_every_answer_in_its_place() -> None:
    part = DataPart()
    (delivery,) = part.deliveries(POLICYQA, "auto")
    found = list(part.records(delivery, 1_000_000))
    assert delivery.delivered_on == date(2021, 11, 8)
    assert Counter((record.table, record.problem) for record in found) == {
        ("passages", None): 574,
        ("questions", None): 3_809,
    }
    assert len({record.values["document_id"] for record in found}) == 20
