"""One function per step: from a row to its changes. Pure, but for the finder of personal data and the secret key.

A function takes a row and returns the columns that it sets; `Unfit` says that it cannot handle the row. A change to
what a function does needs another number in `VERSIONS`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from include.data.prepare.keys import PseudonymKey
from include.spec.prepare import (
    Blank,
    DateParts,
    MaskPersonalData,
    NormaliseText,
    OneHot,
    Pseudonymise,
    Ratio,
    RowStep,
    TextLength,
)

Change = Callable[[Mapping[str, Any]], dict[str, Any]]

VERSIONS = {
    "normalise_text": 1,
    "text_length": 1,
    "date_parts": 1,
    "one_hot": 1,
    "ratio": 1,
    "mask_personal_data": 1,
    "pseudonymise": 1,
    "blank": 1,
}
#: Steps that hide something: what they hide must not be seen in the quarantine either.
CONCEALING = frozenset({"mask_personal_data", "pseudonymise", "blank"})
_PARTS: Mapping[str, Callable[[datetime], int]] = {
    "year": lambda at: at.year,
    "quarter": lambda at: (at.month + 2) // 3,
    "month": lambda at: at.month,
    "day": lambda at: at.day,
    "weekday": lambda at: at.weekday(),
    "hour": lambda at: at.hour,
}


class Unfit(Exception):
    """A step cannot handle a row; the text says why, without the row's values."""


def new_fields(step: RowStep) -> list[pa.Field]:
    """Columns that the step adds."""
    match step:
        case TextLength():
            return [pa.field(step.into, pa.int64())]
        case DateParts():
            return [pa.field(f"{step.column}_{part}", pa.int32()) for part in step.parts]
        case OneHot():
            return [pa.field(name, pa.int8()) for name in _one_hot_names(step)]
        case Ratio():
            return [pa.field(step.into, pa.float64())]
        case _:
            return []


def used_columns(step: RowStep) -> list[str]:
    """Columns that the step reads."""
    match step:
        case Ratio():
            return [step.numerator, step.denominator]
        case NormaliseText() | MaskPersonalData() | Pseudonymise() | Blank():
            return step.columns
        case _:
            return [step.column]


def rewritten_columns(step: RowStep) -> list[str]:
    """Columns that the step writes into and that must hold text, or for `blank` may be null."""
    return step.columns if isinstance(step, NormaliseText | MaskPersonalData | Pseudonymise | Blank) else []


def change_of(step: RowStep) -> Change:
    """The function of the step.

    Raises:
        UserError: It needs a library or a secret that is not there.
    """
    match step:
        case NormaliseText():
            return lambda row: {name: _normalised(row[name]) for name in step.columns}
        case TextLength():
            return lambda row: {step.into: _length(row[step.column], step.unit)}
        case DateParts():
            return lambda row: _date_parts(step, row[step.column])
        case OneHot():
            return lambda row: _one_hot(step, row[step.column])
        case Ratio():
            return lambda row: {step.into: _ratio(row[step.numerator], row[step.denominator])}
        case MaskPersonalData():
            return _mask(step)
        case Pseudonymise():
            key = PseudonymKey()
            return lambda row: {n: None if row[n] is None else key.pseudonym(row[n]) for n in step.columns}
        case Blank():
            return lambda row: dict.fromkeys(step.columns)


def _normalised(text: str | None) -> str | None:
    return None if text is None else " ".join(unicodedata.normalize("NFKC", text).split())


def _length(text: str | None, unit: str) -> int:
    return len((text or "").split()) if unit == "words" else len(text or "")


def _date_parts(step: DateParts, value: object) -> dict[str, Any]:
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
    except ValueError as error:
        raise Unfit(f"{step.column} is no ISO 8601 date") from error
    if not isinstance(value, datetime):
        raise Unfit(f"{step.column} is {'missing' if value is None else 'no date'}")
    return {f"{step.column}_{part}": _PARTS[part](value) for part in step.parts}


def _one_hot_names(step: OneHot) -> list[str]:
    return [f"{step.column}_{re.sub(r'[^a-z0-9]+', '_', value.lower()).strip('_') or 'empty'}" for value in step.values]


def _one_hot(step: OneHot, value: object) -> dict[str, Any]:
    text = "" if value is None else str(value)
    if text not in step.values and step.unknown == "quarantine":
        raise Unfit(f"{step.column} has none of the {len(step.values)} known values")
    return {name: int(text == known) for name, known in zip(_one_hot_names(step), step.values, strict=True)}


def _ratio(numerator: float | None, denominator: float | None) -> float:
    if numerator is None or denominator is None or denominator == 0:
        raise Unfit("the denominator is 0" if denominator == 0 else "a value is missing")
    value = float(numerator) / float(denominator)
    if not math.isfinite(value):
        raise Unfit("the ratio is not finite")
    return value


def _mask(step: MaskPersonalData) -> Change:
    from include.data.pii.finder import DEFAULT, Kind, PersonalDataFinder

    kinds = [Kind(kind) for kind in step.kinds] or [*DEFAULT]
    finder = PersonalDataFinder(kinds, step.names)
    key = PseudonymKey() if step.keyed else None

    def masked(text: str | None) -> str | None:
        if not text:
            return text
        for span in reversed(finder.find(text)):
            found = "".join(text[span.start : span.end].split()).casefold()
            mark = f"[{span.kind.value}:{key.pseudonym(found, 8)}]" if key else f"[{span.kind.value}]"
            text = text[: span.start] + mark + text[span.end :]
        return text

    return lambda row: {name: masked(row[name]) for name in step.columns}
