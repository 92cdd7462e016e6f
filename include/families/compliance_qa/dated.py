"""The layout of dated deliveries: `<YYYY-MM-DD>/documents/*.json` and `<YYYY-MM-DD>/questions.jsonl`.

A document is `{"document_id", "title", "domain", "passages": [{"passage_id", "heading", "text"}]}`. A question is one
line, `{"question_id", "question", "answer", "citations"}`; `answer` is null where none is known, and a citation is a
passage key (`COB:COB-1.1`) or a passage id that starts with its document's id (`COB-1.1`). Either part may be absent
from a delivery, not both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from include.data.formats import WRONG_SCHEMA, require_usable
from include.data.formats.json_text import json_lines, json_value
from include.data.formats.parsed import has_surrogate
from include.errors import DataError
from include.families.compliance_qa.schema import (
    PASSAGES,
    QUESTIONS,
    document_of,
    first_fault,
    passage_key,
    text_fault,
)
from include.families.contract import Delivery, RawRecord

READER = "dated"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def matches(source: Path) -> bool:
    """Whether `source` holds at least one folder that is named like a date."""
    return any(_DATE.fullmatch(path.name) and path.is_dir() for path in source.iterdir())


def deliveries(source: Path) -> list[Delivery]:
    """The dated folders, oldest first.

    Raises:
        DataError: A folder's name is no date of the calendar, or the folder holds neither documents nor questions.
    """
    return [_delivery(path) for path in sorted(source.iterdir()) if _DATE.fullmatch(path.name) and path.is_dir()]


def records(delivery: Delivery, max_row_bytes: int) -> Iterator[RawRecord]:
    """Passages of all documents, then questions."""
    for path in delivery.files:
        place = f"{delivery.name}/{path.name}"
        if path.suffix == ".jsonl":
            yield from _questions(path, place, max_row_bytes)
        else:
            yield from _passages(path, place)


def _delivery(folder: Path) -> Delivery:
    try:
        day = date.fromisoformat(folder.name)
    except ValueError as error:
        raise DataError(
            f"not a date: {error}", where=str(folder), hint="name the folder of a delivery YYYY-MM-DD"
        ) from None
    questions = folder / "questions.jsonl"
    files = (*sorted((folder / "documents").glob("*.json")), *([questions] if questions.exists() else []))
    if not files:
        raise DataError(
            "the delivery is empty",
            where=str(folder),
            hint="it needs documents/*.json or questions.jsonl; remove the folder if there is nothing to deliver",
        )
    return Delivery(folder.name, day, files, READER)


def _passages(path: Path, place: str) -> Iterator[RawRecord]:
    document = json_value(path)
    fault = "a JSON object is needed" if not isinstance(document, dict) else text_fault(document, "document_id")
    if not fault and not (isinstance(document.get("passages"), list) and document["passages"]):
        fault = "'passages' must be a list with at least one passage"
    if fault or has_surrogate(document["document_id"]):
        hint = 'a document is {"document_id", "title", "domain", "passages": [{"passage_id", "heading", "text"}]}'
        raise DataError(f"not a document: {fault or 'document_id is no text'}", where=f"{path}:1", hint=hint)
    for number, passage in enumerate(document["passages"], 1):
        yield _passage(document["document_id"], passage, f"{place}:passage {number}")


def _passage(document_id: str, passage: Any, place: str) -> RawRecord:
    if not isinstance(passage, dict):
        return RawRecord(PASSAGES, place, {}, WRONG_SCHEMA, repr(passage), "a passage must be a JSON object")
    fault = first_fault(
        text_fault(passage, "passage_id"),
        text_fault(passage, "text"),
        text_fault({"heading": "", **passage}, "heading"),
    )
    if fault or has_surrogate(passage):
        return RawRecord(PASSAGES, place, {}, WRONG_SCHEMA, repr(passage), fault or "half of a surrogate pair")
    values = {
        "passage_key": passage_key(document_id, passage["passage_id"]),
        "document_id": document_id,
        "passage_id": passage["passage_id"],
        "heading": passage.get("heading", ""),
        "text": passage["text"],
    }
    return RawRecord(PASSAGES, place, values)


def _questions(path: Path, place: str, max_row_bytes: int) -> Iterator[RawRecord]:
    def checked() -> Iterator[Any]:
        for line in json_lines(path, max_row_bytes):
            fault = "" if line.problem else _question_fault(line.value)
            yield line if not fault else type(line)(line.number, {}, WRONG_SCHEMA, fault, line.raw)

    for line in require_usable(path, checked()):
        at = f"{place}:{line.number}"
        if line.problem:
            yield RawRecord(QUESTIONS, at, {}, line.problem, line.raw, line.detail)
            continue
        citations = [_full_key(citation) for citation in line.value["citations"]]
        values = {
            "question_id": line.value["question_id"],
            "question": line.value["question"],
            "answer": line.value["answer"],
            "citations": citations,
            "document_id": document_of(citations[0]) if citations else None,
        }
        yield RawRecord(QUESTIONS, at, values)


def _question_fault(value: dict[str, Any]) -> str:
    citations = value.get("citations")
    is_list = isinstance(citations, list) and all(isinstance(item, str) for item in citations)
    return first_fault(
        text_fault(value, "question_id"),
        text_fault(value, "question"),
        text_fault(value, "answer", null=True),
        "" if is_list else "'citations' must be a list of passage keys",
    )


def _full_key(citation: str) -> str:
    return citation if ":" in citation else passage_key(citation.rpartition("-")[0] or citation, citation)
