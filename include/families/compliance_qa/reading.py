"""Reads JSON files that may be broken: every fault gets a name and a place, and never hides its neighbours.

A file of lines is read line by line and a bad line is one bad record. A file that is one JSON value cannot be mended
in part: where it cannot be parsed, a `DataError` names the file, the line and the byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from include.errors import DataError

KEPT_BYTES = 2_000  # of a broken record, for quarantine
HOPELESS_LINES = 1_000  # a file whose first lines are all broken is not a file of records
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

NOT_UTF8 = "not_utf8"
MALFORMED_JSON = "malformed_json"
WRONG_SCHEMA = "wrong_schema"
TOO_LONG = "too_long"


@dataclass(frozen=True)
class Parsed:
    """One record of a file: its value, or the name of what is wrong with it.

    Attributes:
        number: Line (from 1) in a file of lines, index (from 1) in an array.
        value: The JSON object; empty where there is a problem.
        problem: `not_utf8`, `malformed_json`, `wrong_schema`, `too_long`, or None.
        detail: The problem in words.
        raw: The start of the record as text, kept where there is a problem.
    """

    number: int
    value: dict[str, Any]
    problem: str | None = None
    detail: str = ""
    raw: str = ""


def json_lines(path: Path, max_bytes: int) -> Iterator[Parsed]:
    """The records of a file with one JSON object per line, streamed; blank lines are no records.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(max_bytes + 2):  # with its end, at most `\r\n`
                number += 1
                if len(line.rstrip(b"\r\n")) > max_bytes:
                    if not line.endswith(b"\n"):
                        _skip_line(file)
                    yield Parsed(number, {}, TOO_LONG, f"longer than {max_bytes} bytes", _text(line))
                elif content := (line.removeprefix(_BOM) if number == 1 else line).strip():
                    yield _parse_line(number, content)
    except OSError as error:
        raise _unreadable(path, error) from error


def json_value(path: Path) -> Any:
    """The JSON value that the file holds.

    Raises:
        DataError: The file cannot be read, is empty, not UTF-8, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise not_json(path, text, error) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be parsed: {error}", where=f"{path}:1", hint=FETCH_AGAIN) from None


def array_items(path: Path, max_bytes: int) -> Iterator[Parsed]:
    """The objects of a file that holds one JSON array. The file's text is held, its records are not.

    Raises:
        DataError: The file cannot be read, is empty, not UTF-8, or not a JSON array.
    """
    text = read_text(path)
    decoder = json.JSONDecoder()
    at = _after_blank(text, 0)
    if text[at] != "[":
        raise DataError("does not hold a JSON array", where=f"{path}:{_line(text, at)}", hint=FETCH_AGAIN)
    at, number = _after_blank(text, at + 1), 0
    while at < len(text) and text[at] != "]":
        number += 1
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise not_json(path, text, error, f" in record {number}") from None
        except (ValueError, RecursionError) as error:
            where = f"{path}:{_line(text, at)}"
            raise DataError(f"record {number} cannot be parsed: {error}", where=where, hint=FETCH_AGAIN) from None
        if end - at > max_bytes:
            yield Parsed(number, {}, TOO_LONG, f"longer than {max_bytes} bytes", text[at : at + KEPT_BYTES])
        else:
            yield _object(number, value, text[at:end])
        at = _after_blank(text, end)
        if at < len(text) and text[at] == ",":
            at = _after_blank(text, at + 1)
        elif at < len(text) and text[at] != "]":
            raise not_json(path, text, json.JSONDecodeError("expected ',' or ']'", text, at), f" after record {number}")
    if at >= len(text):
        raise not_json(
            path, text, json.JSONDecodeError("the array has no end", text, len(text)), f" after record {number}"
        )


def require_usable(path: Path, records: Iterator[Parsed]) -> Iterator[Parsed]:
    """`records`, unless there is not one among them that can be used.

    Raises:
        DataError: The file holds no record, or nothing but broken ones.
    """
    held: list[Parsed] = []
    for record in records:
        if record.problem is not None and len(held) < HOPELESS_LINES:
            held.append(record)
            continue
        if record.problem is not None:
            break
        yield from held
        yield record
        yield from records
        return
    if not held:
        raise DataError(
            "the file is empty", where=str(path), hint="deliver it again, or remove it if there is nothing to deliver"
        )
    first = held[0]
    raise DataError(
        f"not one of {'the first ' if len(held) == HOPELESS_LINES else ''}{len(held)} records can be used; "
        f"the first is {first.problem}: {first.detail}",
        where=f"{path}:{first.number}",
        hint="check that this is the right file, in UTF-8, one JSON object per line",
    )


def read_text(path: Path) -> str:
    """The file's text. Raises `DataError` where it cannot be read, holds nothing, or is not UTF-8."""
    try:
        data = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not data.strip():
        raise DataError(
            "the file is empty", where=str(path), hint="deliver it again, or remove it if there is nothing to deliver"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"the file is not UTF-8 (byte {error.start}: 0x{data[error.start]:02x})",
            where=f"{path}:{line}",
            hint="save it as UTF-8 and deliver it again",
        ) from None


FETCH_AGAIN = "the file is cut off or damaged: deliver it again"


def not_json(path: Path, text: str, error: json.JSONDecodeError, inside: str = "") -> DataError:
    """The error of a file that is not valid JSON, with line and byte."""
    byte = len(text[: error.pos].encode("utf-8", "surrogatepass"))
    at_the_end = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    cut = "the file ends too early" if at_the_end else "not valid JSON"
    return DataError(f"{cut}{inside} (byte {byte}): {error.msg}", where=f"{path}:{error.lineno}", hint=FETCH_AGAIN)


def has_surrogate(value: Any) -> bool:
    r"""Whether a string in `value` holds half of a surrogate pair (`"\ud83d"`): valid JSON, but no text."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(has_surrogate(key) or has_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(has_surrogate(item) for item in value)


def _parse_line(number: int, content: bytes) -> Parsed:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Parsed(number, {}, NOT_UTF8, f"byte {error.start} is 0x{content[error.start]:02x}", _text(content))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return Parsed(number, {}, MALFORMED_JSON, f"{error.msg} at character {error.pos + 1}", _text(content))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        return Parsed(number, {}, MALFORMED_JSON, str(error), _text(content))
    return _object(number, value, text)


def _object(number: int, value: Any, text: str) -> Parsed:
    raw = text[:KEPT_BYTES]
    if not isinstance(value, dict):
        return Parsed(number, {}, WRONG_SCHEMA, f"a JSON object is needed, not {type(value).__name__}", raw)
    if _SURROGATE.search(text) and has_surrogate(value):
        return Parsed(number, {}, NOT_UTF8, "half of a surrogate pair", raw)
    return Parsed(number, value, raw=raw)


def _skip_line(file: BinaryIO) -> None:
    while (part := file.readline(1 << 20)) and not part.endswith(b"\n"):
        pass


def _text(data: bytes) -> str:
    return data[:KEPT_BYTES].decode("utf-8", "replace").strip()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _after_blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot be read: {error.strerror}", where=str(path), hint="check that the file is there and readable"
    )
