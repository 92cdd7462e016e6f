"""Takes rows out of quarantine: as they are, with a waiver of named reasons, or as a person mended them.

The rows become a delivery of the source `release` (see `include.data.released`), named by its content, so that
releasing the same rows twice is one release. A row is taken from the raw batch, where it is as it came; the
quarantine shows personal data masked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.data.batches import PLACE, batch_exists, stream_batch, write_batch
from include.data.mended import Mended
from include.data.quarantine import QuarantinedDelivery, QuarantinedRow, quarantined_rows
from include.data.released import (
    RELEASE,
    ReleaseContent,
    ReleasedRow,
    list_releases,
    mark_of,
    released_rows,
    write_release,
)
from include.data.rows import digest_column, row_marks
from include.data.sieve import DUPLICATE
from include.errors import UserError
from include.families.contract import RawRecord, load_data_code
from include.release.ledger import Event, Ledger
from include.spec.models import BaseFamilySpec
from include.steps.fingerprint import fingerprint
from include.store.objects import ObjectStore


@dataclass(frozen=True)
class Wish:
    """What a person wants released.

    Attributes:
        waive: Reasons that are not to count for these rows.
        places: The rows, by their place or key; empty means every row whose reasons are all waived.
        mended: Rows with other values; None where rows are taken as they are.
        by: Who.
        why: Kept in the ledger.
    """

    waive: frozenset[str]
    places: frozenset[str]
    mended: Sequence[Mended] | None
    by: str
    why: str


@dataclass(frozen=True)
class Outcome:
    """What became of a wish.

    Attributes:
        name: The release as a delivery; None where there was nothing to release.
        released: Rows in it.
        repeated: Rows that were released before in the same way.
        unchanged: Rows of the file whose values are those in quarantine.
        new: Whether this call made the release.
    """

    name: str | None
    released: int
    repeated: int
    unchanged: int
    new: bool


@dataclass(frozen=True)
class _Chosen:
    row: ReleasedRow
    values: Mapping[str, Any]


def release(
    store: ObjectStore,
    ledger: Ledger,
    spec: BaseFamilySpec,
    entry: QuarantinedDelivery,
    wish: Wish,
    *,
    binding: Collection[str],
    at: datetime,
) -> Outcome:
    """Releases rows of one delivery's quarantine.

    Args:
        binding: Reasons of the suite that no waiver lifts.

    Raises:
        UserError: A row is not in quarantine, cannot be released like this, or a reason cannot be waived.
    """
    _require_waivable(wish.waive, binding)
    rows = list(quarantined_rows(store, entry.key))
    schemas = load_data_code(spec.code).schemas()
    if wish.mended is not None:
        chosen, unchanged = _mended(rows, wish.mended, wish.waive, schemas)
    else:
        chosen, unchanged = _as_they_are(store, rows, entry, wish, schemas), 0
    releases = list_releases(ledger, spec.family)
    before = {mark_of(row) for row in released_rows(store, releases, entry.delivery)}
    fresh = [item for item in chosen if mark_of(item.row) not in before]
    repeated = len(chosen) - len(fresh)
    if not fresh:
        return Outcome(None, 0, repeated, unchanged, new=False)
    origin = next((known.source for known in releases if known.name == entry.delivery), entry.source)
    content = ReleaseContent(
        family=spec.family, source=origin, delivery=entry.delivery, rows=[item.row for item in fresh]
    )
    digest = fingerprint(release=content.model_dump(mode="json"))
    name = f"{RELEASE}-{digest[:12]}"
    batch_key = f"raw/{spec.family}/{RELEASE}/{name}-{digest[:16]}"
    if not batch_exists(store, batch_key):
        write_release(store, batch_key, content)
        records = (RawRecord(item.row.table, item.row.place, item.values) for item in fresh)
        write_batch(store, batch_key, schemas, records, confirm=lambda: None)
    record = {
        "delivery": name,
        "origin": origin,
        "from": entry.delivery,
        "rows": len(fresh),
        "mended": sum(item.row.mended for item in fresh),
        "waived": sorted(wish.waive),
        "why": wish.why,
        "delivered_on": max(at.date(), entry.delivered_on).isoformat(),
        "digest": digest,
        "batch_key": batch_key,
    }
    key = f"rows_released:{name}"
    new = ledger.append(spec.family, Event.ROWS_RELEASED, key=key, actor=wish.by, at=at, record=record)
    return Outcome(name, len(fresh), repeated, unchanged, new)


def _require_waivable(waive: Collection[str], binding: Collection[str]) -> None:
    refused = sorted(set(waive) & {DUPLICATE, *binding})
    if refused:
        raise UserError(
            f"no waiver lifts {', '.join(refused)}",
            where="--waive",
            hint="what comes after the gate relies on it; mend the rows (--file) or the source",
        )


def _as_they_are(
    store: ObjectStore,
    rows: Sequence[QuarantinedRow],
    entry: QuarantinedDelivery,
    wish: Wish,
    schemas: Mapping[str, pa.Schema],
) -> list[_Chosen]:
    unknown = wish.places - {name for row in rows for name in (row.place, row.key)}
    if unknown:
        raise UserError(
            f"not in the quarantine of {entry.delivery}: {', '.join(sorted(unknown)[:3])}",
            where="--row",
            hint="give a place or key as `windtunnel quarantine show` names it",
        )
    wanted = [row for row in rows if _is_wanted(row, wish)]
    for row in wanted:
        if not row.parsed:
            raise UserError("the row could not be parsed", where=row.place, hint="mend it and release it with --file")
        left = sorted(set(row.reasons) - wish.waive)
        if left:
            raise UserError(
                f"it is in quarantine for {', '.join(left)} as well",
                where=row.place,
                hint="waive that too, or mend the row and release it with --file",
            )
    values = _raw_values(store, entry, wanted, schemas)
    return [_chosen(row, values[row.table, row.place], schemas, row.reasons, mended=False) for row in wanted]


def _is_wanted(row: QuarantinedRow, wish: Wish) -> bool:
    if wish.places:
        return row.place in wish.places or row.key in wish.places
    return set(row.reasons) <= wish.waive


def _raw_values(
    store: ObjectStore, entry: QuarantinedDelivery, rows: Sequence[QuarantinedRow], schemas: Mapping[str, pa.Schema]
) -> dict[tuple[str, str], dict[str, Any]]:
    """(table, place) -> the row as it came."""
    places = {row.place for row in rows}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for table in {row.table for row in rows}:
        for batch in stream_batch(store, entry.batch_key, table):
            for record in batch.filter(pc.is_in(batch.column(PLACE), pa.array(places, pa.string()))).to_pylist():
                found[table, record[PLACE]] = {name: record[name] for name in schemas[table].names}
    return found


def _mended(
    rows: Sequence[QuarantinedRow], file: Sequence[Mended], waive: Collection[str], schemas: Mapping[str, pa.Schema]
) -> tuple[list[_Chosen], int]:
    """Rows whose values were changed, and how many were not."""
    known = {(row.table, row.place): row for row in rows}
    found: list[_Chosen] = []
    unchanged = 0
    for mended in file:
        row = known.get((mended.table, mended.place))
        if row is None:
            raise UserError(
                f"{mended.place} of {mended.table} is not in this quarantine",
                where=mended.where,
                hint="only rows of the file that `windtunnel quarantine show --export` wrote can be released",
            )
        values = mended.typed(schemas[mended.table])
        if mended.same_as(row.values):
            unchanged += 1
            continue
        found.append(_chosen(row, values, schemas, waive, mended=True))
    return found, unchanged


def _chosen(
    row: QuarantinedRow,
    values: Mapping[str, Any],
    schemas: Mapping[str, pa.Schema],
    waived: Collection[str],
    *,
    mended: bool,
) -> _Chosen:
    schema = schemas[row.table]
    marks = row_marks(pa.RecordBatch.from_pylist([dict(values)], schema=schema), schema.names)
    released = ReleasedRow(
        table=row.table,
        place=row.place,
        digest=digest_column(marks)[0].as_py(),
        reasons=row.reasons,
        waived=sorted(waived),
        mended=mended,
    )
    return _Chosen(released, values)
