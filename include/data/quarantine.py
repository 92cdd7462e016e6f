"""Reads the quarantine: which deliveries left rows behind, and which rows with which reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from include.data.batches import PLACE, stream_parquet
from include.data.records import DeliveryCheck
from include.errors import UserError
from include.store.objects import ObjectStore

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class QuarantinedDelivery:
    """The quarantine of the newest check of a delivery.

    Attributes:
        key: Object key of the rows; give it to `quarantined_rows`.
        batch_key: Object-key prefix of the raw batch, where the rows are as they came.
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
    batch_key: str


@dataclass(frozen=True)
class QuarantinedRow:
    """One row: `values` is its JSON, or, where it is not `parsed`, the start of what came; personal data is masked."""

    table: str
    key: str | None
    place: str
    reasons: list[str]
    detail: str
    values: str
    parsed: bool


def list_quarantine(store: ObjectStore, family: str) -> list[QuarantinedDelivery]:
    """Every delivery of a family whose newest check put rows into quarantine, oldest delivery first."""
    found: list[QuarantinedDelivery] = []
    for source, check in newest_checks(store, family):
        reasons: Counter[str] = Counter()
        for table in check.tables.values():
            reasons.update(table.reasons)
        rows = sum(table.rows_in - table.rows_clean for table in check.tables.values())
        if rows:
            found.append(
                QuarantinedDelivery(
                    source=source,
                    delivery=check.delivery,
                    delivered_on=check.delivered_on,
                    key=check.quarantine_key,
                    passed=check.passed,
                    rows=rows,
                    reasons=dict(sorted(reasons.items())),
                    batch_key=check.batch_key,
                )
            )
    return sorted(found, key=lambda entry: (entry.delivered_on, entry.source, entry.key))


def find_quarantine(store: ObjectStore, family: str, delivery: str, source: str | None = None) -> QuarantinedDelivery:
    """The quarantine of one delivery.

    Raises:
        UserError: There is none, or two sources have a delivery of this name.
    """
    listed = list_quarantine(store, family)
    found = [
        entry
        for entry in listed
        if delivery in (entry.delivery, entry.delivery.removeprefix(f"{entry.source}."))
        and source in (None, entry.source)
    ]
    if len(found) > 1:
        sources = ", ".join(entry.source for entry in found)
        raise UserError(f"several sources have a delivery {delivery!r}", hint=f"say which (--source): {sources}")
    if not found:
        known = ", ".join(sorted({entry.delivery for entry in listed})) or "(none)"
        raise UserError(f"no row of delivery {delivery!r} is in quarantine", hint=f"deliveries: {known}")
    return found[0]


def quarantined_rows(store: ObjectStore, key: str, reason: str | None = None) -> Iterator[QuarantinedRow]:
    """The rows under `key`, or those of them with `reason`. Raises `ObjectNotFound`."""
    for row in (row for batch in stream_parquet(store, key) for row in batch.to_pylist()):
        if reason is None or reason in row["reasons"]:
            yield QuarantinedRow(
                table=row["table"],
                key=row["key"],
                place=row[PLACE],
                reasons=row["reasons"],
                detail=row["detail"],
                values=row["values"],
                parsed=row.get("parsed", row["key"] is not None),
            )


def newest_checks(store: ObjectStore, family: str) -> list[tuple[str, DeliveryCheck]]:
    """(source, check): the newest of every delivery. Other code or other earlier deliveries make another check."""
    newest: dict[tuple[str, str], DeliveryCheck] = {}
    for key in store.keys(f"checked/{family}/"):
        if not key.endswith("/check.json"):
            continue
        check = DeliveryCheck.model_validate_json(store.get(key))
        name = (key.split("/")[2], check.delivery)
        before = newest.get(name)
        if before is None or (check.checked_at or _NEVER) >= (before.checked_at or _NEVER):
            newest[name] = check
    return [(source, check) for (source, _), check in newest.items()]
