"""What orders must satisfy; both sides of the ingest benchmark run these expectations (see `benchmarks.orders`)."""

from __future__ import annotations

from typing import Any

import great_expectations.expectations as gxe
import pyarrow as pa
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
        gxe.ExpectColumnValuesToMatchRegex(column="order_id", regex=r"^o-\d{9}$", **_called("wrong_key")),
        gxe.ExpectColumnValuesToMatchRegex(column="customer", regex=r"\S", **_called("empty_customer")),
        gxe.ExpectColumnValuesToBeInSet(column="country", value_set=list(COUNTRIES), **_called("unknown_country")),
        gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=0, max_value=100_000, **_called("wrong_amount")),
        gxe.ExpectColumnValuesToBeBetween(column="quantity", min_value=1, max_value=1_000, **_called("wrong_quantity")),
        gxe.ExpectColumnValuesToMatchRegex(column="note", regex=r"\S", **_called("empty_note")),
        gxe.ExpectColumnValuesToNotMatchRegex(
            column="note", regex=r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}", **_called("personal_data")
        ),
    ]


def _called(reason: str) -> dict[str, Any]:
    return {"description": reason.replace("_", " "), "meta": {"reason": reason}}
