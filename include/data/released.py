"""Rows that people took out of quarantine, as deliveries of the source `release`.

A release is a raw batch like any other, with `release.json` beside it: where each row came from, why it was in
quarantine, and which of those reasons are waived for it. The entry in the ledger is what makes it count: it says who
released the rows, when and why, and it is written once, last of all. The next run ingests the release and checks it
with the same suite; a row that still fails goes back to quarantine.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime

from include.data.records import IngestedDelivery, Record
from include.release.ledger import Entry, Event, Ledger
from include.store.objects import ObjectStore

RELEASE = "release"  # the id of the source
_ALL = 1_000_000


class ReleasedRow(Record):
    """One row of a release.

    Attributes:
        place: Where it stood in the delivery; it stands at the same place in the release.
        digest: Digest of its values as they were released (see `include.data.rows`).
        reasons: What it was in quarantine for.
        waived: Those of the reasons that no longer count, for this row alone.
        mended: Whether its values were changed.
    """

    table: str
    place: str
    digest: str
    reasons: list[str]
    waived: list[str]
    mended: bool


class ReleaseContent(Record):
    """What was released, from the quarantine of which delivery; the content of `release.json`."""

    family: str
    source: str
    delivery: str
    rows: list[ReleasedRow]


@dataclass(frozen=True)
class Release:
    """A release as the ledger tells it.

    Attributes:
        name: Its name as a delivery.
        source: Id of the source whose row it is, however often it was released since.
        delivery: The delivery from whose quarantine the rows were taken.
    """

    name: str
    source: str
    delivery: str
    delivered_on: date
    digest: str
    rows: int
    batch_key: str
    by: str
    why: str
    at: datetime

    def as_delivery(self) -> IngestedDelivery:
        """The release as `ingest` hands it on."""
        return IngestedDelivery(
            delivery=self.name,
            delivered_on=self.delivered_on,
            digest=self.digest,
            rows_in=self.rows,
            batch_key=self.batch_key,
        )


def list_releases(ledger: Ledger, family: str) -> list[Release]:
    """Every release of a family, in the order in which they were made."""
    return [_release(entry) for entry in reversed(ledger.entries(family, frozenset({Event.ROWS_RELEASED}), _ALL))]


def released_deliveries(ledger: Ledger, family: str, sources: Collection[str]) -> list[IngestedDelivery]:
    """The releases of rows of these sources, in the order in which they were made."""
    return [release.as_delivery() for release in list_releases(ledger, family) if release.source in sources]


def read_release(store: ObjectStore, batch_key: str) -> ReleaseContent:
    """What the release with this raw batch holds. Raises `ObjectNotFound`."""
    return ReleaseContent.model_validate_json(store.get(content_key(batch_key)))


def write_release(store: ObjectStore, batch_key: str, content: ReleaseContent) -> None:
    """Stores what the release with this raw batch holds."""
    store.put(content_key(batch_key), json.dumps(content.model_dump(mode="json"), indent=1).encode())


def content_key(batch_key: str) -> str:
    """Where `release.json` lies."""
    return f"{batch_key}/release.json"


def is_release(delivery: IngestedDelivery) -> bool:
    """Whether the delivery came out of quarantine."""
    return delivery.batch_key.split("/")[2] == RELEASE


class Waivers:
    """Which reasons do not count for which rows of one delivery; none for a delivery that is no release.

    Args:
        binding: Reasons that no waiver lifts.
    """

    def __init__(self, content: ReleaseContent | None, binding: Collection[str]) -> None:
        rows = content.rows if content else []
        self._waived = {(row.table, row.place): frozenset(row.waived) - frozenset(binding) for row in rows}

    @classmethod
    def of(cls, store: ObjectStore, delivery: IngestedDelivery, binding: Collection[str]) -> Waivers:
        """Those of a delivery."""
        return cls(read_release(store, delivery.batch_key) if is_release(delivery) else None, binding)

    def split(self, table: str, place: str, reasons: list[str]) -> tuple[list[str], list[str]]:
        """`reasons` of a row as those that count and those that are waived."""
        waived = self._waived.get((table, place), frozenset())
        return [name for name in reasons if name not in waived], [name for name in reasons if name in waived]

    def waives(self, table: str, place: str, reasons: Collection[str]) -> list[str]:
        """Those of `reasons` that are waived for a row."""
        return sorted(self._waived.get((table, place), frozenset()) & set(reasons))


def released_rows(store: ObjectStore, releases: Collection[Release], delivery: str) -> Iterator[ReleasedRow]:
    """The rows that were released from the quarantine of `delivery`."""
    for release in releases:
        if release.delivery == delivery:
            yield from read_release(store, release.batch_key).rows


def mark_of(row: ReleasedRow) -> tuple[str, ...]:
    """What tells a release of a row from another release of the same row."""
    return (row.table, row.place, row.digest, *sorted(row.waived))


def _release(entry: Entry) -> Release:
    record = entry.record
    return Release(
        name=record["delivery"],
        source=record["origin"],
        delivery=record["from"],
        delivered_on=date.fromisoformat(record["delivered_on"]),
        digest=record["digest"],
        rows=record["rows"],
        batch_key=record["batch_key"],
        by=entry.actor,
        why=record["why"],
        at=entry.at,
    )
