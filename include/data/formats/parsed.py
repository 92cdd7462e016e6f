"""One record of a file: its value, or the name of what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.errors import DataError

KEPT_BYTES = 2_000  # of a broken record, for quarantine
HOPELESS_RECORDS = 1_000  # a file whose first records are all broken is not a file of records

NOT_UTF8 = "not_utf8"
NUL_BYTE = "nul_byte"
MALFORMED_JSON = "malformed_json"
MALFORMED_CSV = "malformed_csv"
WRONG_SCHEMA = "wrong_schema"
WRONG_TYPE = "wrong_type"
NOT_FINITE = "not_finite"
TOO_LONG = "too_long"

FETCH_AGAIN = "the file is cut off or damaged: deliver it again"
DELIVER_AGAIN = "deliver it again, or remove it if there is nothing to deliver"


@dataclass(frozen=True)
class Parsed:
    """One record of a file.

    Attributes:
        number: Line (from 1) in a file of lines, index (from 1) in an array or a Parquet file.
        value: Name -> value; empty where there is a problem.
        problem: One of the names above, or None.
        detail: The problem in words.
        raw: The start of the record as text.
    """

    number: int
    value: dict[str, Any]
    problem: str | None = None
    detail: str = ""
    raw: str = ""


def require_usable(path: Path, records: Iterator[Parsed], *, may_be_empty: bool = False) -> Iterator[Parsed]:
    """`records`, unless there is not one among them that can be used.

    Args:
        may_be_empty: A file without any record, such as a CSV file with nothing but its header, is in order.

    Raises:
        DataError: The file holds no record, or nothing but broken ones.
    """
    held: list[Parsed] = []
    for record in records:
        if record.problem is not None and len(held) < HOPELESS_RECORDS:
            held.append(record)
            continue
        if record.problem is not None:
            break
        yield from held
        yield record
        yield from records
        return
    if held:
        raise _hopeless(path, held)
    if not may_be_empty:
        raise empty_file(path)


def empty_file(path: Path) -> DataError:
    """The error of a file without content."""
    return DataError("the file is empty", where=str(path), hint=DELIVER_AGAIN)


def kept_text(data: bytes) -> str:
    """The start of a broken record, as text."""
    return data[:KEPT_BYTES].decode("utf-8", "replace").strip()


_SURROGATE = re.compile("[\ud800-\udfff]")


def has_surrogate(value: Any) -> bool:
    r"""Whether a string in `value` holds half of a surrogate pair (`"\ud83d"`): valid JSON, but no text."""
    if isinstance(value, str):
        return not value.isascii() and _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(has_surrogate(key) or has_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(has_surrogate(item) for item in value)


def _hopeless(path: Path, held: list[Parsed]) -> DataError:
    first = held[0]
    return DataError(
        f"not one of {'the first ' if len(held) == HOPELESS_RECORDS else ''}{len(held)} records can be used; "
        f"the first is {first.problem}: {first.detail}",
        where=f"{path}:{first.number}",
        hint="check that this is the right file, in UTF-8, with one record per line and the declared columns",
    )
