"""Divides a raw batch into clean and quarantined rows, and stores both. A stored check is never altered.

Every record that came in is in exactly one of the two. The reasons of a quarantined row are the names of all
expectations that it failed, the name of what kept it from being parsed, or `duplicate`: the same key, or the same
values under another key, was clean before it. Duplicates are quarantined like any other row, but they do not lower
the table's validation rate: a feed that sends a row twice is not a broken feed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from include.data.batches import PLACE, PROBLEMS, read_batch, read_parquet, write_parquet
from include.data.records import DeliveryCheck, ExpectationCount, IngestedDelivery, TableCheck
from include.data.rows import content_digest, describe_schema, row_digests, row_json
from include.expectations.known import Known
from include.spec.models import BaseFamilySpec
from include.steps.fingerprint import file_digest
from include.store.objects import ObjectNotFound, ObjectStore

DUPLICATE = "duplicate"
DIGEST = "digest"
SAMPLES = 3

QUARANTINE_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("key", pa.string()),
        (PLACE, pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
        ("values", pa.string()),  # JSON of the row, or the start of what could not be parsed
    ]
)
_KEYS_SCHEMA = pa.schema([("table", pa.string()), ("key", pa.string()), ("content", pa.string())])


@dataclass
class _Sorted:
    """One table of a delivery, divided; `digests` and `keys` (key, content) go with the rows of `clean`."""

    clean: list[dict[str, Any]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    keys: list[tuple[str, str]] = field(default_factory=list)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    expectations: list[ExpectationCount] = field(default_factory=list)


def load_check(store: ObjectStore, prefix: str) -> DeliveryCheck | None:
    """The check under `prefix`, if it is complete."""
    try:
        return DeliveryCheck.model_validate_json(store.get(f"{prefix}/check.json"))
    except ObjectNotFound:
        return None


def load_keys(store: ObjectStore, check: DeliveryCheck, known: Known) -> None:
    """Adds the clean rows of a stored check to `known`."""
    keys = read_parquet(store, check.keys_key).to_pydict()
    for table, key, content in zip(keys["table"], keys["key"], keys["content"], strict=True):
        known.add(table, key, content)


def make_check(
    store: ObjectStore,
    prefix: str,
    spec: BaseFamilySpec,
    schemas: Mapping[str, pa.Schema],
    suite: ModuleType,
    delivery: IngestedDelivery,
    known: Known,
) -> DeliveryCheck:
    """Checks a raw batch against what is `known` of earlier deliveries, and stores the outcome under `prefix`."""
    known = Known(known)
    problems = read_batch(store, delivery.batch_key, PROBLEMS).to_pylist()
    found: dict[str, _Sorted] = {}
    for table in suite.TABLES:
        key = spec.data.tables[table].key
        rows = read_batch(store, delivery.batch_key, table)
        found[table] = _sort(spec.data.suite, suite, table, key, schemas[table], rows, known)
        found[table].quarantine += [_unparsed(problem) for problem in problems if problem["table"] == table]
    quarantine = [row for part in found.values() for row in part.quarantine]
    keys = [
        {"table": table, "key": key, "content": content} for table, part in found.items() for key, content in part.keys
    ]
    write_parquet(store, f"{prefix}/quarantine.parquet", pa.Table.from_pylist(quarantine, QUARANTINE_SCHEMA))
    write_parquet(store, f"{prefix}/keys.parquet", pa.Table.from_pylist(keys, _KEYS_SCHEMA))
    check = DeliveryCheck(
        delivery=delivery.delivery,
        delivered_on=delivery.delivered_on,
        digest=delivery.digest,
        suite=spec.data.suite,
        suite_digest=suite_digest(suite),
        tables={name: _store_table(store, prefix, spec, name, schemas[name], part) for name, part in found.items()},
        quarantine_key=f"{prefix}/quarantine.parquet",
        keys_key=f"{prefix}/keys.parquet",
    )
    store.put(f"{prefix}/check.json", json.dumps(check.model_dump(mode="json"), indent=1).encode())
    return check


def suite_digest(suite: ModuleType) -> str:
    """sha256 (hex) of the suite's source."""
    return file_digest(Path(str(suite.__file__)))


def _sort(
    suite_name: str, suite: ModuleType, table: str, key: str, schema: pa.Schema, rows: pa.Table, known: Known
) -> _Sorted:
    from include.expectations.gate import run_suite

    outcome = run_suite(suite_name, suite.suite(table), suite.prepare(table, rows, known))
    records = rows.select(schema.names).to_pylist()
    digests = row_digests(records, schema.names)
    contents = row_digests(records, [name for name in schema.names if name != key])
    part = _Sorted(expectations=outcome.counts)
    for number, (record, place) in enumerate(zip(records, rows.column(PLACE).to_pylist(), strict=True)):
        reasons = outcome.reasons.get(number, [])
        detail, mark = "", (str(record[key]), contents[number])
        if not reasons and known.has_key(table, mark[0]):
            reasons, detail = [DUPLICATE], f"{key} {mark[0]!r} is there already"
        elif not reasons and known.has_content(table, mark[1]):
            reasons, detail = [DUPLICATE], f"the same values under another {key} are there already"
        if reasons:
            row = {
                "table": table,
                "key": None if record[key] is None else str(record[key]),
                PLACE: place,
                "reasons": reasons,
                "detail": detail,
            }
            part.quarantine.append({**row, "values": row_json(record)})
            continue
        known.add(table, *mark)
        part.clean.append(record)
        part.digests.append(digests[number])
        part.keys.append(mark)
    return part


def _unparsed(problem: dict[str, str]) -> dict[str, Any]:
    return {
        "table": problem["table"],
        "key": None,
        PLACE: problem[PLACE],
        "reasons": [problem["problem"]],
        "detail": problem["detail"],
        "values": problem["raw"],
    }


def _store_table(
    store: ObjectStore, prefix: str, spec: BaseFamilySpec, name: str, schema: pa.Schema, part: _Sorted
) -> TableCheck:
    clean = pa.Table.from_pylist(part.clean, schema).append_column(DIGEST, pa.array(part.digests, pa.string()))
    write_parquet(store, f"{prefix}/{name}.parquet", clean)
    reasons: Counter[str] = Counter()
    samples: dict[str, list[str]] = {}
    for row in part.quarantine:
        reasons.update(row["reasons"])
        for reason in row["reasons"]:
            if len(samples.setdefault(reason, [])) < SAMPLES:
                samples[reason].append(row[PLACE])
    return TableCheck(
        rows_in=len(part.clean) + len(part.quarantine),
        rows_clean=len(part.clean),
        rows_duplicate=sum(1 for row in part.quarantine if row["reasons"] == [DUPLICATE]),
        min_valid_rate=spec.data.tables[name].min_valid_rate,
        reasons=dict(sorted(reasons.items())),
        samples=samples,
        clean_key=f"{prefix}/{name}.parquet",
        content=content_digest(describe_schema(schema), part.digests),
        expectations=part.expectations,
    )
