"""The report and the model card of a version: kept under their content, so that nobody can change one unnoticed.

A registered version names both with their digests, in its record and in the ledger. A step that is done again measures
other latencies and so writes other documents; those of the version stay as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from include.errors import DataError
from include.store.objects import ObjectNotFound, ObjectStore

REPORT, CARD = "report", "card"


class DocumentError(DataError):
    """A document of a version is gone, or is not what was registered."""


@dataclass(frozen=True)
class Document:
    """Where a document lies, and the sha256 (hex) of its bytes."""

    key: str
    digest: str


def keep(store: ObjectStore, family: str, name: str, data: bytes) -> Document:
    """Stores a document; the same bytes are stored once. `name` is such as `report.json`."""
    digest = hashlib.sha256(data).hexdigest()
    key = f"evaluations/{family}/documents/{digest[:20]}/{name}"
    if not store.exists(key) or hashlib.sha256(store.get(key)).hexdigest() != digest:
        store.put(key, data)
    return Document(key, digest)


def read(store: ObjectStore, document: Document) -> bytes:
    """The document's bytes.

    Raises:
        DocumentError: It is gone, or was changed.
    """
    try:
        data = store.get(document.key)
    except ObjectNotFound as error:
        raise DocumentError(
            "the document is gone", where=document.key, hint="restore the object from a backup; its digest is known"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != document.digest:
        raise DocumentError(
            f"the document was changed: its sha256 begins with {found[:12]}, registered was {document.digest[:12]}",
            where=document.key,
            hint="restore the object from a backup, and find out who changed it",
        )
    return data


def document_of(record: Mapping[str, Any], name: str) -> Document | None:
    """The document `report` or `card` of a version's record; None where it was registered without a digest."""
    key, digest = record.get(f"{name}_key"), record.get(f"{name}_digest")
    return Document(key, digest) if key and digest else None
