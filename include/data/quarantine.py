"""Reads the quarantine: which deliveries left rows behind, and which rows with which reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from include.data.batches import PLACE, read_parquet
from include.data.records import DeliveryCheck
from include.store.objects import ObjectStore


@dataclass(frozen=True)
class QuarantinedDelivery:
    """The quarantine of one check of a delivery.

    Attributes:
        key: Object key of the rows; give it to `quarantined_rows`.
        passed: Whether the delivery passed the gate in spite of them.
        reasons: Reason -> rows that have it.
    """

    source: str
    delivery: str
    delivered_on: date
    key: str
    passed: bool
    rows: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class QuarantinedRow:
    """One row: `values` is its JSON, or the start of what could not be parsed."""

    table: str
    key: str | None
    place: str
    reasons: list[str]
    detail: str
    values: str


def list_quarantine(store: ObjectStore, family: str) -> list[QuarantinedDelivery]:
    """Every check of a family that put rows into quarantine, oldest delivery first."""
    found: list[QuarantinedDelivery] = []
    for key in store.keys(f"checked/{family}/"):
        if not key.endswith("/check.json"):
            continue
        check = DeliveryCheck.model_validate_json(store.get(key))
        reasons: Counter[str] = Counter()
        for table in check.tables.values():
            reasons.update(table.reasons)
        rows = sum(table.rows_in - table.rows_clean for table in check.tables.values())
        if rows:
            source = key.split("/")[2]
            found.append(
                QuarantinedDelivery(
                    source,
                    check.delivery,
                    check.delivered_on,
                    check.quarantine_key,
                    check.passed,
                    rows,
                    dict(sorted(reasons.items())),
                )
            )
    return sorted(found, key=lambda entry: (entry.delivered_on, entry.source, entry.key))


def quarantined_rows(store: ObjectStore, key: str, reason: str | None = None) -> Iterator[QuarantinedRow]:
    """The rows under `key`, or those of them with `reason`. Raises `ObjectNotFound`."""
    for row in read_parquet(store, key).to_pylist():
        if reason is None or reason in row["reasons"]:
            yield QuarantinedRow(row["table"], row["key"], row[PLACE], row["reasons"], row["detail"], row["values"])
