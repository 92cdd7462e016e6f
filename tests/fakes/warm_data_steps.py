"""What the server of forks imports and does once, so that no fork needs to: the data steps with all their libraries.

No store, no database and no dataset table is opened here, so that no connection and no thread is inherited.
"""

from __future__ import annotations

import importlib

import pyarrow as pa

from include.expectations.known import Known
from include.families.compliance_qa.schema import SCHEMAS

for name in ("ingest", "validate", "publish"):
    importlib.import_module(f"include.data.{name}")
for name in ("alembic.command", "alembic.context", "deltalake", "tests.data.conftest"):
    importlib.import_module(name)

suite = importlib.import_module("include.expectations.compliance_qa")
gate = importlib.import_module("include.expectations.gate")
for table, schema in SCHEMAS.items():
    row = {field.name: [] if pa.types.is_list(field.type) else "" for field in schema}
    gate.run_suite(
        "compliance_qa", suite.suite(table), suite.prepare(table, pa.Table.from_pylist([row], schema), Known())
    )
