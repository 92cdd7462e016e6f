"""Reads JSON files that may be broken: every fault gets a name and a place, and never hides its neighbours.

A file of lines is read line by line and a bad line is one bad record. A file that is one JSON value cannot be mended
in part: where it cannot be parsed, a `DataError` names the file, the line and the byte. An array is read record by
record, whatever its size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from include.data.formats.json_array import ArrayFault, NoArray, array_texts
from include.data.formats.opening import MAX_FILE_BYTES, open_file
from include.data.formats.parsed import (
    FETCH_AGAIN,
    KEPT_BYTES,
    MALFORMED_JSON,
    NOT_UTF8,
    TOO_LONG,
    WRONG_SCHEMA,
    Parsed,
    empty_file,
    has_surrogate,
    kept_text,
)
from include.errors import DataError

MAX_DOCUMENT_BYTES = 512 << 20  # a document is held in memory as a whole
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def json_lines(path: Path, max_bytes: int, max_file_bytes: int = MAX_FILE_BYTES) -> Iterator[Parsed]:
    """The records of a file with one JSON object per line, streamed; blank lines are no records.

    Raises:
        DataError: The file cannot be read, or is empty.
    """
    with open_file(path, max_file_bytes) as file:
        number = 0
        while line := file.readline(max_bytes + 2):  # with its end, at most `\r\n`
            number += 1
            if len(line.rstrip(b"\r\n")) > max_bytes:
                if not line.endswith(b"\n"):
                    skip_line(file)
                yield Parsed(number, {}, TOO_LONG, f"longer than {max_bytes} bytes", kept_text(line))
            elif content := line.strip():
                yield _parse_line(number, content)


def json_value(path: Path) -> Any:
    """The JSON value that the file holds.

    Raises:
        DataError: The file cannot be read, is empty, not UTF-8, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        byte = len(text[: error.pos].encode("utf-8", "surrogatepass"))
        raise _not_json(path, error.lineno, byte, error.msg, _at_the_end(text, error)) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be parsed: {error}", where=f"{path}:1", hint=FETCH_AGAIN) from None


def array_items(path: Path, max_bytes: int, max_file_bytes: int = MAX_FILE_BYTES) -> Iterator[Parsed]:
    """The objects of a file that holds one JSON array, streamed.

    Raises:
        DataError: The file cannot be read, is empty, not UTF-8, or not a JSON array.
    """
    with open_file(path, max_file_bytes) as file:
        try:
            for item in array_texts(file, max_bytes):
                if item.too_long:
                    detail = f"longer than {max_bytes} bytes"
                    yield Parsed(item.number, {}, TOO_LONG, detail, kept_text(item.data))
                else:
                    text = _decoded(path, item.data, item.byte, item.line)
                    value = _item_value(path, item.number, text, item.byte, item.line)
                    yield _object(item.number, value, text)
        except ArrayFault as fault:
            raise _array_error(path, fault) from None


def read_text(path: Path) -> str:
    """The file's text. Raises `DataError` where it cannot be read, holds nothing, or is not UTF-8."""
    with open_file(path, MAX_DOCUMENT_BYTES) as file:
        data = file.read()
    if not data.strip():
        raise empty_file(path)
    return _decoded(path, data, 0, 1)


def skip_line(file: BinaryIO) -> None:
    """Reads on to the end of the line without keeping it."""
    while (part := file.readline(1 << 20)) and not part.endswith(b"\n"):
        pass


def _parse_line(number: int, content: bytes) -> Parsed:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Parsed(number, {}, NOT_UTF8, f"byte {error.start} is 0x{content[error.start]:02x}", kept_text(content))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at character {error.pos + 1}"
        return Parsed(number, {}, MALFORMED_JSON, detail, kept_text(content))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        return Parsed(number, {}, MALFORMED_JSON, str(error), kept_text(content))
    return _object(number, value, text)


def _object(number: int, value: Any, text: str) -> Parsed:
    raw = text[:KEPT_BYTES]
    if not isinstance(value, dict):
        return Parsed(number, {}, WRONG_SCHEMA, f"a JSON object is needed, not {type(value).__name__}", raw)
    if _SURROGATE.search(text) and has_surrogate(value):
        return Parsed(number, {}, NOT_UTF8, "half of a surrogate pair", raw)
    return Parsed(number, value, raw=raw)


def _item_value(path: Path, number: int, text: str, byte: int, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = byte + len(text[: error.pos].encode("utf-8", "surrogatepass"))
        raise _not_json(path, line + error.lineno - 1, at, error.msg, False, f" in record {number}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"record {number} cannot be parsed: {error}", where=f"{path}:{line}", hint=FETCH_AGAIN
        ) from None


def _array_error(path: Path, fault: ArrayFault) -> DataError:
    if isinstance(fault, NoArray):
        if fault.cut:
            return empty_file(path)
        return DataError("does not hold a JSON array", where=f"{path}:{fault.line}", hint=FETCH_AGAIN)
    try:
        json.loads(fault.data)
    except RecursionError as error:
        return DataError(f"the array cannot be parsed: {error}", where=f"{path}:{fault.line}", hint=FETCH_AGAIN)
    except ValueError:  # of course: it was cut off
        pass
    return _not_json(path, fault.line, fault.byte, fault.message, fault.cut, fault.inside)


def _not_json(path: Path, line: int, byte: int, message: str, cut: bool, inside: str = "") -> DataError:
    what = "the file ends too early" if cut else "not valid JSON"
    return DataError(f"{what}{inside} (byte {byte}): {message}", where=f"{path}:{line}", hint=FETCH_AGAIN)


def _at_the_end(text: str, error: json.JSONDecodeError) -> bool:
    return error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")


def _decoded(path: Path, data: bytes, byte: int, line: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + data.count(b"\n", 0, error.start)
        raise DataError(
            f"the file is not UTF-8 (byte {byte + error.start}: 0x{data[error.start]:02x})",
            where=f"{path}:{at}",
            hint="save it as UTF-8 and deliver it again",
        ) from None
