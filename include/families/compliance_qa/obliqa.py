"""The ObliQA layout: `ObliQA_*.json` (questions) and `StructuredRegulatoryDocuments/*.json` (passages).

Gokhan, Wang, Gurevych, Briscoe: RIRAG, arXiv:2409.05677. The set is one delivery, of the date of the commit that the
file `SOURCE` beside it names, or else of its newest file. It has no answers.

A document repeats some passage ids. A repeated one becomes `5.2.13#2`, `5.2.13#3` in the order of the file, so that
every passage keeps a key of its own; empty passages, which nobody can cite, get their number last. A question quotes
the passages that it cites, and the quotation tells which of the repeated ones is meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from include.data.formats import WRONG_SCHEMA, Parsed, require_usable
from include.data.formats.json_text import array_items
from include.errors import DataError
from include.families.compliance_qa.schema import (
    PASSAGES,
    QUESTIONS,
    document_of,
    first_fault,
    passage_key,
    text_fault,
)
from include.families.compliance_qa.snapshot import snapshot_day
from include.families.contract import Delivery, RawRecord

READER = "obliqa"
DOCUMENTS = "StructuredRegulatoryDocuments"

#: Passage key -> quoted text -> the key with its number, for keys that a document repeats.
_Repeated = dict[str, dict[str, str]]


def matches(source: Path) -> bool:
    """Whether `source` looks like ObliQA."""
    return any(source.glob("ObliQA_*.json"))


def deliveries(source: Path) -> list[Delivery]:
    """The whole set as one delivery.

    Raises:
        DataError: There are questions but no documents.
    """
    questions = sorted(source.glob("ObliQA_*.json"))
    documents = sorted((source / DOCUMENTS).glob("*.json"), key=lambda path: (len(path.stem), path.stem))
    if not questions or not documents:
        missing = "ObliQA_*.json" if not questions else f"{DOCUMENTS}/*.json"
        raise DataError(
            f"there is no {missing}", where=str(source), hint="an ObliQA folder has both questions and documents"
        )
    files = (*documents, *questions)
    day = snapshot_day(source, files)
    return [Delivery(day.isoformat(), day, files, READER)]


def records(delivery: Delivery, max_row_bytes: int) -> Iterator[RawRecord]:
    """Passages of all documents, then questions."""
    repeated: _Repeated = {}
    for path in delivery.files:
        if path.parent.name == DOCUMENTS:
            yield from _passages(path, repeated, max_row_bytes)
        else:
            yield from _questions(path, repeated, max_row_bytes)


def _passages(path: Path, repeated: _Repeated, max_row_bytes: int) -> Iterator[RawRecord]:
    place = f"{DOCUMENTS}/{path.name}"
    items = list(require_usable(path, _checked(path, _passage_fault, max_row_bytes)))
    ids = _numbered(items)
    for item in items:
        at = f"{place}:record {item.number}"
        if item.problem:
            yield RawRecord(PASSAGES, at, {}, item.problem, item.raw, item.detail)
            continue
        document, plain, text = str(item.value["DocumentID"]), item.value["PassageID"], item.value["Passage"]
        key = passage_key(document, ids[item.number])
        if ids[item.number] != plain:
            repeated.setdefault(passage_key(document, plain), {})[text] = key
        yield RawRecord(
            PASSAGES,
            at,
            {"passage_key": key, "document_id": document, "passage_id": ids[item.number], "heading": "", "text": text},
        )


def _numbered(items: list[Parsed]) -> dict[int, str]:
    """Record number -> passage id, with `#2`, `#3` on repeated ones; those with a text come first."""
    seen: defaultdict[tuple[str, str], int] = defaultdict(int)
    ids: dict[int, str] = {}
    usable = [item for item in items if item.problem is None]
    for item in sorted(usable, key=lambda item: not item.value["Passage"].strip()):
        key = (str(item.value["DocumentID"]), item.value["PassageID"])
        seen[key] += 1
        ids[item.number] = key[1] if seen[key] == 1 else f"{key[1]}#{seen[key]}"
    return ids


def _questions(path: Path, repeated: _Repeated, max_row_bytes: int) -> Iterator[RawRecord]:
    for item in require_usable(path, _checked(path, _question_fault, max_row_bytes)):
        at = f"{path.name}:record {item.number}"
        if item.problem:
            yield RawRecord(QUESTIONS, at, {}, item.problem, item.raw, item.detail)
            continue
        citations = list(dict.fromkeys(_citation(passage, repeated) for passage in item.value["Passages"]))
        values = {
            "question_id": item.value["QuestionID"],
            "question": item.value["Question"],
            "answer": None,
            "citations": citations,
            "document_id": document_of(citations[0]) if citations else None,
        }
        yield RawRecord(QUESTIONS, at, values)


def _citation(passage: dict[str, Any], repeated: _Repeated) -> str:
    key = passage_key(str(passage["DocumentID"]), passage["PassageID"])
    return repeated.get(key, {}).get(passage.get("Passage", ""), key)


def _checked(path: Path, fault_of: Any, max_row_bytes: int) -> Iterator[Parsed]:
    for item in array_items(path, max_row_bytes):
        fault = "" if item.problem else fault_of(item.value)
        yield item if not fault else Parsed(item.number, {}, WRONG_SCHEMA, fault, item.raw)


def _passage_fault(value: dict[str, Any]) -> str:
    return first_fault(_document_fault(value), text_fault(value, "PassageID"), text_fault(value, "Passage"))


def _question_fault(value: dict[str, Any]) -> str:
    passages = value.get("Passages")
    if not isinstance(passages, list) or not all(isinstance(passage, dict) for passage in passages):
        return "'Passages' must be a list of passages"
    cited = [first_fault(_document_fault(passage), text_fault(passage, "PassageID")) for passage in passages]
    return first_fault(text_fault(value, "QuestionID"), text_fault(value, "Question"), *cited)


def _document_fault(value: dict[str, Any]) -> str:
    kind = type(value.get("DocumentID"))
    return "" if kind in (int, str) else f"'DocumentID' must be a number or text, not {kind.__name__}"
