"""Divides a raw batch into clean and quarantined rows, and stores both. A stored check is never altered.

Every record that came in is in exactly one of the two. The reasons of a quarantined row are the names of all
expectations that it failed, the name of what kept it from being parsed, or `duplicate`: the same key, or the same
values under another key, was clean before it. In a released delivery a reason does not count for a row for which a
person waived it. Personal data that a row is quarantined for is masked; as it came it is only in the raw batch.

Duplicates are quarantined like any other row, but they do not lower
the table's validation rate: a feed that sends a row twice is not a broken feed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pyarrow as pa

from include.data.batches import PLACE, PROBLEMS, read_batch, read_parquet, write_parquet
from include.data.records import DeliveryCheck, ExpectationCount, IngestedDelivery, TableCheck
from include.data.released import Waivers, is_release
from include.data.rows import content_digest, describe_schema, row_digests, row_json
from include.expectations.known import Known
from include.expectations.suites import binding_reasons, suite_digest, suite_version
from include.expectations.text_faults import mask_personal_data
from include.spec.models import BaseFamilySpec
from include.store.objects import ObjectNotFound, ObjectStore

DUPLICATE = "duplicate"
PERSONAL_DATA = "personal_data"
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
        ("parsed", pa.bool_()),
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
    waived: Counter[str] = field(default_factory=Counter)
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
    waivers = Waivers.of(store, delivery, binding_reasons(suite))
    problems = read_batch(store, delivery.batch_key, PROBLEMS).to_pylist()
    found: dict[str, _Sorted] = {}
    for table in suite.TABLES:
        key = spec.data.tables[table].key
        rows = read_batch(store, delivery.batch_key, table)
        found[table] = _sort(spec.data.suite, suite, table, key, schemas[table], rows, known, waivers)
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
        tables={
            name: _store_table(store, prefix, name, schemas[name], part, _min_valid_rate(spec, name, delivery))
            for name, part in found.items()
        },
        quarantine_key=f"{prefix}/quarantine.parquet",
        keys_key=f"{prefix}/keys.parquet",
        suite_version=suite_version(suite),
        suite_digest=suite_digest(suite),
        batch_key=delivery.batch_key,
        checked_at=datetime.now(UTC),
    )
    store.put(f"{prefix}/check.json", json.dumps(check.model_dump(mode="json"), indent=1).encode())
    return check


def _sort(
    suite_name: str,
    suite: ModuleType,
    table: str,
    key: str,
    schema: pa.Schema,
    rows: pa.Table,
    known: Known,
    waivers: Waivers,
) -> _Sorted:
    from include.expectations.gate import run_suite

    outcome = run_suite(suite_name, suite.suite(table), suite.prepare(table, rows, known))
    records = rows.select(schema.names).to_pylist()
    digests = row_digests(records, schema.names)
    contents = row_digests(records, [name for name in schema.names if name != key])
    part = _Sorted(expectations=outcome.counts)
    for number, (record, place) in enumerate(zip(records, rows.column(PLACE).to_pylist(), strict=True)):
        reasons, waived = waivers.split(table, place, outcome.reasons.get(number, []))
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
            shown = _masked(record) if PERSONAL_DATA in reasons else record
            part.quarantine.append({**row, "values": row_json(shown), "parsed": True})
            continue
        part.waived.update(waived)
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
        "detail": mask_personal_data(problem["detail"]),
        "values": mask_personal_data(problem["raw"]),
        "parsed": False,
    }


def _masked(value: Any) -> Any:
    """`value` with personal data masked in every text of it."""
    if isinstance(value, str):
        return mask_personal_data(value)
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return {name: _masked(item) for name, item in value.items()} if isinstance(value, dict) else value


def _store_table(
    store: ObjectStore, prefix: str, name: str, schema: pa.Schema, part: _Sorted, min_valid_rate: float
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
        min_valid_rate=min_valid_rate,
        reasons=dict(sorted(reasons.items())),
        samples=samples,
        clean_key=f"{prefix}/{name}.parquet",
        content=content_digest(describe_schema(schema), part.digests),
        expectations=part.expectations,
        waived=dict(sorted(part.waived.items())),
    )


def _min_valid_rate(spec: BaseFamilySpec, table: str, delivery: IngestedDelivery) -> float:
    """A release is a few rows that were in quarantine before: that some fail again is no reason to stop a run."""
    return 0.0 if is_release(delivery) else spec.data.tables[table].min_valid_rate
