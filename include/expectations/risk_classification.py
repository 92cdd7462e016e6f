"""What accident reports and their labels in risk_classification must satisfy.

Codes must be in the code book, and a report must not come from the future. Warnings are for a person who reviews the
labels: a class that does not go with the cause that the inspector found, a fall whose recorded height is not among the
heights that the narrative tells of, a narrative that the source cut off.

Imports Great Expectations: see `include.expectations.compliance_qa`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from great_expectations.expectations.expectation import Expectation  # noqa: TID253

from include.expectations.forms import Fault, absent, between, length, matches, one_of, with_faults
from include.expectations.known import Known
from include.expectations.text_faults import wrong_encoding
from include.families.risk_classification.code_book import (
    CAUSES,
    CLASSES,
    CLASSES_OF_CAUSE,
    INDUSTRIES,
    INJURIES,
    OPERATIONS,
)
from include.families.risk_classification.schema import INCIDENTS, LABELS, SCHEMAS

VERSION = "1.0.0"
TABLES = (INCIDENTS, LABELS)
BINDING = frozenset({"wrong_key", "empty_summary", "unknown_label", "unknown_incident"})

FIRST_YEAR, LAST_YEAR = 1971, 2099  # the administration began its work in April 1971
TALLEST_FEET = 2_063  # the KVLY-TV mast, the tallest structure of the country
CUT_LENGTH = 3_999  # the source kept 4,000 characters of a narrative, the first a blank
HEIGHT_TOLERANCE = 1.0  # feet: heights are rounded

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b(?:{_MONTHS})\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(\d{{4}})\b", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d)[ ,](?=\d{3}\b)")
_HEIGHT = re.compile(r"\d[ -]*(?:ft|feet|foot)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_TO_TWENTY = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_WORDS = {word: number for number, word in enumerate(_TO_TWENTY, 1)}


def prepare(table: str, rows: pa.Table, known: Known) -> pa.Table:
    """`rows` with the columns that only expectations look at; `known` holds the incidents that a label may name."""
    faults: dict[str, Fault] = {
        "wrong_encoding": lambda row: wrong_encoding(row["title"]) or wrong_encoding(row["summary"]),
        "wrong_year": lambda row: _wrong_year(row["summary"]),
        "unknown_cause": lambda row: _unknown(row["fatal_cause"], CAUSES),
        "cut": lambda row: "cut" if len(row["summary"].strip()) >= CUT_LENGTH else None,
    }
    if table == INCIDENTS:
        faults |= {
            "unknown_activity": lambda row: _unknown(row["activity"], OPERATIONS),
            "unknown_injury": _unknown_injury,
            "other_height": disagreeing_height,
        }
    else:
        faults |= {
            "other_class": _other_class,
        }
    rows = with_faults(rows, SCHEMAS[table], faults)
    if table == INCIDENTS:
        return rows
    keys = rows.column("incident_id").combine_chunks()
    unknown = pc.if_else(pa.array(known.has_keys(INCIDENTS, keys)), None, keys)
    return rows.append_column("unknown_incident", unknown)


def suite(table: str) -> list[Expectation]:
    """The expectations of a table."""
    return [*_both(), *(_incidents() if table == INCIDENTS else _labels())]


def _both() -> list[Expectation]:
    return [
        matches("incident_id", r"^\d{6,9}$", "wrong_key", "the number of an accident has 6 to 9 digits"),
        matches("title", r"\S", "empty_title", "the report has a title"),
        matches("summary", r"\S", "empty_summary", "the report has a narrative"),
        length("summary", 40, 20_000, "summary_too_short_or_long", "the narrative has 40 to 20000 characters"),
        absent("wrong_year", "impossible_date", f"the narrative's date is of the years {FIRST_YEAR} to {LAST_YEAR}"),
        absent("unknown_cause", "unknown_fatal_cause", "the cause of death is in the code book"),
        absent("wrong_encoding", "wrong_encoding", "no sign of text that was decoded wrongly"),
        absent("cut", "summary_cut_off", "the narrative is whole: the source keeps 4000 characters", warns=True),
    ]


def _incidents() -> list[Expectation]:
    return [
        one_of("industry", INDUSTRIES, "unknown_industry_code", "SIC division C, construction"),
        absent("unknown_injury", "unknown_injury", "every injury is in the code book"),
        absent("unknown_activity", "unknown_activity", "the operation is in the code book"),
        between("fall_feet", 1, TALLEST_FEET, "impossible_fall", f"a fall is of 1 to {TALLEST_FEET} feet"),
        absent(
            "other_height",
            "fall_height_disagrees",
            "a narrative that tells heights tells that of the fall, give or take a foot",
            warns=True,
        ),
    ]


def _labels() -> list[Expectation]:
    return [
        one_of("label", CLASSES, "unknown_label", f"one of the {len(CLASSES)} classes"),
        absent("unknown_incident", "unknown_incident", "the accident came with this delivery or an earlier one"),
        absent(
            "other_class", "label_against_cause", "the class goes with the cause that the inspector found", warns=True
        ),
    ]


def _wrong_year(text: str) -> str | None:
    """The year of the first date in the text, where nobody can have written a report about it."""
    match = _DATE.search(text)
    return match[1] if match and not FIRST_YEAR <= int(match[1]) <= LAST_YEAR else None


def _unknown(code: str | None, book: frozenset[str]) -> str | None:
    return code if code is not None and code.strip() not in book else None


def _unknown_injury(row: Mapping[str, Any]) -> str | None:
    names = (row["injuries"] or "").split(",")
    return next((name for name in names if name.strip() and name.strip() not in INJURIES), None)


def disagreeing_height(row: Mapping[str, Any]) -> str | None:
    """The recorded height of the fall, where the narrative tells heights and none of its numbers is that one."""
    fall, text = row["fall_feet"], _THOUSANDS.sub("", row["summary"])
    if fall is None or not _HEIGHT.search(text):
        return None
    told = [float(number) for number in _NUMBER.findall(text)]
    told += [_WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _WORDS]
    return None if any(abs(number - fall) <= HEIGHT_TOLERANCE for number in told) else f"{fall} feet"


def _other_class(row: Mapping[str, Any]) -> str | None:
    cause = (row["fatal_cause"] or "").strip()
    fitting = CLASSES_OF_CAUSE.get(cause)
    return None if fitting is None or row["label"] in fitting else f"{cause}: {row['label']}"
