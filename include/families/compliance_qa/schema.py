"""The tables of the family, and the checks of types that every reader shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

PASSAGES, QUESTIONS = "passages", "questions"

SCHEMAS: Mapping[str, pa.Schema] = {
    PASSAGES: pa.schema(
        [
            pa.field("passage_key", pa.string(), nullable=False),  # "<document_id>:<passage_id>"
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("passage_id", pa.string(), nullable=False),
            pa.field("heading", pa.string(), nullable=False),  # empty where the source has none
            pa.field("text", pa.string(), nullable=False),
        ]
    ),
    QUESTIONS: pa.schema(
        [
            pa.field("question_id", pa.string(), nullable=False),
            pa.field("question", pa.string(), nullable=False),
            pa.field("answer", pa.string()),  # null: not known; an empty one is a fault
            pa.field("citations", pa.list_(pa.string()), nullable=False),  # passage keys, best first
            pa.field("document_id", pa.string()),  # of the first citation
        ]
    ),
}


def passage_key(document_id: str, passage_id: str) -> str:
    """How citations and models name a passage."""
    return f"{document_id}:{passage_id}"


def document_of(key: str) -> str:
    """The document of a passage key."""
    return key.partition(":")[0]


def text_fault(value: Mapping[str, Any], field: str, *, null: bool = False) -> str:
    """What is wrong with a field that must be text (or null, where `null`); empty if nothing."""
    if field not in value:
        return f"{field!r} is missing"
    if isinstance(value[field], str) or (null and value[field] is None):
        return ""
    return f"{field!r} must be text, not {type(value[field]).__name__}"


def first_fault(*faults: str) -> str:
    """The first fault that is one."""
    return next((fault for fault in faults if fault), "")
