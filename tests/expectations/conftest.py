"""Runs a family's suite on a few rows."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from include.data.batches import PLACE, raw_schema
from include.expectations.known import Known

Check = Callable[..., tuple[list[list[str]], dict[str, int]]]


@pytest.fixture
def check() -> Check:
    """`check(family, table, records, known)`: the reasons of every row, and warning -> rows that it is about."""

    def run(family: str, table: str, records: list[dict[str, Any]], known: Known | None = None) -> Any:
        from include.expectations.gate import run_suite

        schema = importlib.import_module(f"include.families.{family}.schema").SCHEMAS[table]
        suite = importlib.import_module(f"include.expectations.{family}")
        placed = [{**record, PLACE: f"f:{number}"} for number, record in enumerate(records, 1)]
        rows = suite.prepare(table, pa.Table.from_pylist(placed, raw_schema(schema)), known or Known())
        outcome = run_suite(family, suite.suite(table), rows)
        warnings = {count.reason: count.failed for count in outcome.counts if count.warns and count.failed}
        return [outcome.reasons.get(number, []) for number in range(len(records))], warnings

    return run
