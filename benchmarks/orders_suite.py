"""What orders must satisfy; both sides of the ingest benchmark run these expectations (see `benchmarks.orders`)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween
from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
from great_expectations.expectations.core.expect_column_values_to_match_regex import ExpectColumnValuesToMatchRegex
from great_expectations.expectations.core.expect_column_values_to_not_match_regex import (
    ExpectColumnValuesToNotMatchRegex,
)
from great_expectations.expectations.expectation import Expectation

from benchmarks.orders import COUNTRIES
from include.expectations.known import Known

TABLES = ("orders",)
VERSION = "1"


def prepare(table: str, rows: pa.Table, known: Known) -> pa.Table:
    """The expectations look at the columns as they are."""
    return rows


def suite(table: str) -> list[Expectation]:
    """The expectations of the table."""
    return [
        ExpectColumnValuesToMatchRegex(column="order_id", regex=r"^o-\d{9}$", **_called("wrong_key")),
        ExpectColumnValuesToMatchRegex(column="customer", regex=r"\S", **_called("empty_customer")),
        ExpectColumnValuesToBeInSet(column="country", value_set=list(COUNTRIES), **_called("unknown_country")),
        ExpectColumnValuesToBeBetween(column="amount", min_value=0, max_value=100_000, **_called("wrong_amount")),
        ExpectColumnValuesToBeBetween(column="quantity", min_value=1, max_value=1_000, **_called("wrong_quantity")),
        ExpectColumnValuesToMatchRegex(column="note", regex=r"\S", **_called("empty_note")),
        ExpectColumnValuesToNotMatchRegex(
            column="note", regex=r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}", **_called("personal_data")
        ),
    ]


def _called(reason: str) -> dict[str, Any]:
    return {"description": reason.replace("_", " "), "meta": {"reason": reason}}
