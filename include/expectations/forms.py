"""The forms of expectation that suites of tables of records are made of, each with its reason.

A suite's `prepare` puts what takes more than a comparison into columns of its own, which hold the fault or null;
`absent` then says that there must be none. `warns=True` makes a warning of an expectation: see the package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyarrow as pa
from great_expectations.expectations.core.expect_column_value_lengths_to_be_between import (  # noqa: TID253
    ExpectColumnValueLengthsToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_between import (  # noqa: TID253
    ExpectColumnValuesToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_in_set import (  # noqa: TID253
    ExpectColumnValuesToBeInSet,
)
from great_expectations.expectations.core.expect_column_values_to_be_null import (  # noqa: TID253
    ExpectColumnValuesToBeNull,
)
from great_expectations.expectations.core.expect_column_values_to_match_regex import (  # noqa: TID253
    ExpectColumnValuesToMatchRegex,
)
from great_expectations.expectations.expectation import Expectation  # noqa: TID253

#: A row -> the fault that it has, in a few words, or None.
Fault = Callable[[Mapping[str, Any]], str | None]


def with_faults(rows: pa.Table, schema: pa.Schema, faults: Mapping[str, Fault]) -> pa.Table:
    """`rows` with a column for every fault, which holds it or null.

    A row without a value that `schema` wants is not looked at: the gate says `missing_value` of it.
    """
    required = [field.name for field in schema if not field.nullable]
    records = [row if None not in [row[name] for name in required] else None for row in rows.to_pylist()]
    for name, fault in faults.items():
        found = [None if record is None else fault(record) for record in records]
        rows = rows.append_column(name, pa.array(found, pa.string()))
    return rows


def absent(column: str, reason: str, description: str, *, warns: bool = False) -> Expectation:
    """No row has a value in `column`."""
    return ExpectColumnValuesToBeNull(column=column, **_told(reason, description, warns))


def between(
    column: str, low: float | None, high: float | None, reason: str, description: str, *, warns: bool = False
) -> Expectation:
    """Every value is in [low, high]."""
    return ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, **_told(reason, description, warns)
    )


def one_of(column: str, known: Collection[Any], reason: str, description: str, *, warns: bool = False) -> Expectation:
    """Every value is a known one."""
    return ExpectColumnValuesToBeInSet(column=column, value_set=sorted(known), **_told(reason, description, warns))


def matches(column: str, regex: str, reason: str, description: str, *, warns: bool = False) -> Expectation:
    """Every value has a part that matches."""
    return ExpectColumnValuesToMatchRegex(column=column, regex=regex, **_told(reason, description, warns))


def length(
    column: str, low: int | None, high: int | None, reason: str, description: str, *, warns: bool = False
) -> Expectation:
    """Every text has between `low` and `high` characters."""
    return ExpectColumnValueLengthsToBeBetween(
        column=column, min_value=low, max_value=high, **_told(reason, description, warns)
    )


def _told(reason: str, description: str, warns: bool) -> dict[str, Any]:
    return {
        "description": description,
        "meta": {"reason": reason},
        "severity": "warning" if warns else "critical",
    }
