"""The PolicyQA layout: `dev.json`, `train.json`, `test.json` in the format of SQuAD.

Ahmad, Chi, Tian, Chang: PolicyQA: A Reading Comprehension Dataset for Privacy Policies, Findings of EMNLP 2020. A
policy is a document, a paragraph is a passage. An answer is a span: the file gives its text and where it starts in the
passage, and a question whose answers do not all stand there is not used. Of several spans the first is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from include.data.formats import TOO_LONG, WRONG_SCHEMA
from include.data.formats.json_text import json_value
from include.data.formats.parsed import KEPT_BYTES, has_surrogate
from include.errors import DataError
from include.families.compliance_qa.schema import PASSAGES, QUESTIONS, first_fault, passage_key, text_fault
from include.families.compliance_qa.snapshot import snapshot_day
from include.families.contract import Delivery, RawRecord

READER = "policyqa"
FILES = ("train.json", "dev.json", "test.json")
#: The answer is not where the file says that it stands in the passage.
WRONG_SPAN = "wrong_span"
#: The question's passage cannot be used.
UNKNOWN_PASSAGE = "unknown_passage"


def matches(source: Path) -> bool:
    """Whether `source` looks like PolicyQA."""
    return any((source / name).is_file() for name in FILES)


def deliveries(source: Path) -> list[Delivery]:
    """The whole set as one delivery.

    Raises:
        DataError: There is none of the files.
    """
    files = tuple(source / name for name in FILES if (source / name).is_file())
    if not files:
        raise DataError(f"there is none of {', '.join(FILES)}", where=str(source), hint="a PolicyQA folder has one")
    day = snapshot_day(source, files)
    return [Delivery(day.isoformat(), day, files, READER)]


def records(delivery: Delivery, max_row_bytes: int) -> Iterator[RawRecord]:
    """The passages of all files, then the questions.

    Raises:
        DataError: A file is not in the format of SQuAD.
    """
    found = [(path, _paragraphs(path)) for path in delivery.files]
    for path, paragraphs in found:
        for place, title, number, paragraph in paragraphs:
            yield _passage(f"{path.name}:{place}", title, number, paragraph, max_row_bytes)
    for path, paragraphs in found:
        for place, title, number, paragraph in paragraphs:
            problem, detail = _passage_fault(paragraph, max_row_bytes)
            for position, asked in enumerate(_questions_of(paragraph), 1):
                at = f"{path.name}:{place} question {position}"
                if problem:
                    why = f"its passage cannot be used: {detail}"
                    yield RawRecord(QUESTIONS, at, {}, UNKNOWN_PASSAGE, repr(asked)[:KEPT_BYTES], why)
                else:
                    key = passage_key(title, _passage_id(number, paragraph))
                    yield _question(at, key, paragraph["context"], asked)


def _paragraphs(path: Path) -> list[tuple[str, str, int, Any]]:
    """Place, title of the document, number and content of every paragraph."""
    value = json_value(path)
    documents = value.get("data") if isinstance(value, dict) else None
    if not isinstance(documents, list) or not documents:
        raise DataError("does not hold a list of documents in 'data'", where=f"{path}:1", hint="the format is SQuAD's")
    found: list[tuple[str, str, int, Any]] = []
    for position, document in enumerate(documents, 1):
        fault = text_fault(document, "title") if isinstance(document, dict) else "must be a JSON object"
        if not fault and not isinstance(document.get("paragraphs"), list):
            fault = "'paragraphs' must be a list"
        if fault or has_surrogate(document["title"]):
            raise DataError(
                f"document {position}: {fault or 'its title is no text'}", where=str(path), hint="the format is SQuAD's"
            )
        found += [
            (f"document {position} paragraph {number + 1}", document["title"], number, paragraph)
            for number, paragraph in enumerate(document["paragraphs"])
        ]
    return found


def _questions_of(paragraph: Any) -> list[Any]:
    asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
    return asked if isinstance(asked, list) else []


def _passage_id(number: int, paragraph: dict[str, Any]) -> str:
    return str(paragraph.get("index", number))


def _passage(place: str, title: str, number: int, paragraph: Any, max_row_bytes: int) -> RawRecord:
    problem, detail = _passage_fault(paragraph, max_row_bytes)
    if problem:
        return RawRecord(PASSAGES, place, {}, problem, repr(paragraph)[:KEPT_BYTES], detail)
    passage_id = _passage_id(number, paragraph)
    values = {
        "passage_key": passage_key(title, passage_id),
        "document_id": title,
        "passage_id": passage_id,
        "heading": "",
        "text": paragraph["context"],
    }
    return RawRecord(PASSAGES, place, values)


def _passage_fault(paragraph: Any, max_row_bytes: int) -> tuple[str | None, str]:
    if not isinstance(paragraph, dict):
        return WRONG_SCHEMA, "a paragraph must be a JSON object"
    asked = "" if isinstance(paragraph.get("qas"), list) else "'qas' must be a list"
    fault = first_fault(text_fault(paragraph, "context"), asked)
    if fault or has_surrogate(paragraph["context"]):
        return WRONG_SCHEMA, fault or "half of a surrogate pair"
    size = len(paragraph["context"].encode())
    return (TOO_LONG, f"longer than {max_row_bytes} bytes") if size > max_row_bytes else (None, "")


def _question(place: str, key: str, passage: str, asked: Any) -> RawRecord:
    problem, detail = _question_fault(asked, passage)
    if problem:
        return RawRecord(QUESTIONS, place, {}, problem, repr(asked)[:KEPT_BYTES], detail)
    values = {
        "question_id": asked["id"],
        "question": asked["question"],
        "answer": asked["answers"][0]["text"] if asked["answers"] else None,
        "citations": [key],
        "document_id": key.rpartition(":")[0],
    }
    return RawRecord(QUESTIONS, place, values)


def _question_fault(asked: Any, passage: str) -> tuple[str | None, str]:
    if not isinstance(asked, dict):
        return WRONG_SCHEMA, "a question must be a JSON object"
    answers = asked.get("answers")
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        return WRONG_SCHEMA, "'answers' must be a list of answers"
    fault = first_fault(
        text_fault(asked, "id"), text_fault(asked, "question"), *(_answer_fault(answer) for answer in answers)
    )
    if fault or has_surrogate(asked):
        return WRONG_SCHEMA, fault or "half of a surrogate pair"
    wrong = next((answer for answer in answers if not _stands(answer, passage)), None)
    return (None, "") if wrong is None else (WRONG_SPAN, _where_it_stands(wrong, passage))


def _answer_fault(answer: dict[str, Any]) -> str:
    start = answer.get("answer_start")
    whole = isinstance(start, int) and not isinstance(start, bool) and start >= 0
    return first_fault(text_fault(answer, "text"), "" if whole else "'answer_start' must be a number of characters")


def _stands(answer: dict[str, Any], passage: str) -> bool:
    return passage.startswith(answer["text"], answer["answer_start"])


def _where_it_stands(answer: dict[str, Any], passage: str) -> str:
    start, text = answer["answer_start"], answer["text"]
    there = passage[start : start + len(text)][:60]
    found = passage.find(text)
    instead = f"the answer starts at {found}" if found >= 0 else "the answer is nowhere in the passage"
    return f"at {start} the passage has {there!r}; {instead}"
