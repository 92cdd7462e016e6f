"""Values into the types of columns, strictly: what comes out is exactly what an Arrow array of that type can hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

Converter = Callable[[Any], Any]

_WHOLE = re.compile(r"[+-]?\d{1,30}(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_UNFINITE = frozenset({"nan", "inf", "infinity"})
_TRUE, _FALSE = frozenset({"true", "t", "yes", "y", "1"}), frozenset({"false", "f", "no", "n", "0"})
_FLOAT32_MAX = 3.4028234663852886e38
_EXACT_FLOAT = 2**53
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class NotFinite(ValueError):
    """A number that is NaN or infinite."""


def converter(kind: pa.DataType, from_text: bool) -> Converter:
    """What turns a value into one of `kind`.

    It raises `ValueError`, `TypeError`, `OverflowError` or `pa.ArrowException` with words that follow the column's
    name (`must be text, not int`), and `NotFinite` for NaN and infinity.

    Args:
        from_text: Numbers, truth values and lists may come as text.
    """
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind):
        return _text
    if types.is_integer(kind):
        return lambda value: _integer(value, kind, from_text)
    if types.is_floating(kind):
        return lambda value: _float(value, kind, from_text)
    if types.is_boolean(kind):
        return lambda value: _boolean(value, from_text)
    if types.is_date(kind):
        return _date
    if types.is_timestamp(kind):
        return lambda value: _timestamp(value, kind)
    if types.is_decimal(kind):
        return lambda value: _decimal(value, kind)
    if types.is_list(kind) or types.is_large_list(kind):
        item = converter(kind.value_type, False)
        return lambda value: _list(value, item, from_text)
    return lambda value: pa.scalar(value, kind).as_py()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _must_be("text", value)
    return value


def _integer(value: Any, kind: pa.DataType, from_text: bool) -> int:
    if isinstance(value, str) and from_text:
        text = value.strip()
        if not _WHOLE.fullmatch(text):
            raise _no_number("a whole number", text)
        value = int(text.partition(".")[0])
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise NotFinite(value)
        if not value.is_integer() or abs(value) > _EXACT_FLOAT:
            raise ValueError(f"must be a whole number, not {value}")
        value = int(value)
    elif not isinstance(value, int) or isinstance(value, bool):
        raise _must_be("a whole number", value)
    signed = pa.types.is_signed_integer(kind)
    low = -(2 ** (kind.bit_width - 1)) if signed else 0
    if not low <= value < low + 2**kind.bit_width:
        raise OverflowError(f"is too large for {kind}")
    return int(value)


def _float(value: Any, kind: pa.DataType, from_text: bool) -> float:
    if isinstance(value, str) and from_text:
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            raise _no_number("a number", text)
        value = float(text)
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _must_be("a number", value)
    number = float(value)
    if not math.isfinite(number):
        raise NotFinite(number)
    if kind.bit_width < 64 and abs(number) > _FLOAT32_MAX:
        raise OverflowError(f"is too large for {kind}")
    return number


def _boolean(value: Any, from_text: bool) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) and from_text else None
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise _must_be("true or false", value)


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        if value.timetz() != value.min.time():
            raise ValueError(f"must be a day, not {value}")
        return value.date()
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise _must_be("a date", value)
    try:
        return date.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"must be a date like 2026-10-12, not {value[:40]!r}") from None


def _timestamp(value: Any, kind: pa.DataType) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"must be a moment like 2026-10-12T08:30:00, not {value[:40]!r}") from None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    elif not isinstance(value, datetime):
        raise _must_be("a moment", value)
    moment: datetime = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if abs(moment.timestamp()) * _TICKS[kind.unit] >= 2**63:
        raise OverflowError(f"is out of the range of {kind}")
    return moment if kind.tz else moment.replace(tzinfo=None)


def _decimal(value: Any, kind: pa.DataType) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _must_be("a number", value)
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise _no_number("a number", str(value)) from None
    if not number.is_finite():
        raise NotFinite(number)
    made: Decimal = pa.scalar(number, kind).as_py()
    return made


def _list(value: Any, item: Converter, from_text: bool) -> list[Any]:
    if isinstance(value, str) and from_text:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("must be a list in JSON") from None
    if not isinstance(value, list):
        raise _must_be("a list", value)
    return [None if entry is None else item(entry) for entry in value]


def _must_be(what: str, value: Any) -> TypeError:
    return TypeError(f"must be {what}, not {type(value).__name__}")


def _no_number(what: str, text: str) -> ValueError:
    if text.lstrip("+-").lower() in _UNFINITE:
        return NotFinite(text)
    return ValueError(f"must be {what}, not {text[:40]!r}")
