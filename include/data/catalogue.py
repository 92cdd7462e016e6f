"""The catalogue: which deliveries were ingested and which dataset versions exist. Rows are added, never changed.

What is unique in the database decides every race: who comes second meets the row of who came first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Engine, Row, Table, desc, func, insert, select
from sqlalchemy.exc import IntegrityError

from include.data.records import IngestedDelivery
from include.store import schema

SEEN = "seen"  # mark of tags that say when a content was found again


@dataclass(frozen=True)
class VersionEntry:
    """A published dataset version."""

    family: str
    version: str
    fingerprint: str
    manifest_key: str
    published_at: datetime


class Catalogue:
    """Reads and adds; one object may be shared by threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def deliveries(self, family: str, source: str) -> list[IngestedDelivery]:
        """Every ingested content of every delivery of a source, in the order of ingestion."""
        table = schema.deliveries
        query = select(table).where(table.c.family == family, table.c.source == source).order_by(table.c.id)
        with self._engine.connect() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def names(self, family: str, source: str) -> frozenset[str]:
        """Names of the deliveries of a source that were ingested."""
        return frozenset(delivery.delivery for delivery in self.deliveries(family, source))

    def add_delivery(self, family: str, source: str, delivery: IngestedDelivery, at: datetime) -> bool:
        """Records a delivery once per content. False where it is there already."""
        values = {
            "family": family, "source": source, "delivery": delivery.delivery, "digest": delivery.digest,
            "delivered_on": delivery.delivered_on.isoformat(), "rows_in": delivery.rows_in,
            "batch_key": delivery.batch_key, "ingested_at": at,
        }  # fmt: skip
        return self._insert(schema.deliveries, values)

    def watermark(self, family: str, source: str) -> date | None:
        """The newest day of which a delivery was ingested; None before the first."""
        table = schema.deliveries
        query = select(func.max(table.c.delivered_on)).where(table.c.family == family, table.c.source == source)
        with self._engine.connect() as connection:
            newest = connection.execute(query).scalar()
        return date.fromisoformat(newest) if newest else None

    def tags(self, family: str, source: str, mark: str) -> dict[str, dict[str, str]]:
        """Delivery -> tag -> digest of the content that it stands for; see `note_tag`."""
        table = schema.delivery_tags
        query = select(table).where(table.c.family == family, table.c.source == source, table.c.mark == mark)
        query = query.order_by(table.c.id)
        found: dict[str, dict[str, str]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                found.setdefault(row.delivery, {})[row.tag] = row.digest
        return found

    def seen(self, family: str, source: str) -> dict[str, str]:
        """Delivery -> digest of the content that was seen last: ingested, or found again (a tag marked `SEEN`)."""
        ingested, tags = schema.deliveries, schema.delivery_tags
        queries = (
            select(ingested.c.delivery, ingested.c.digest, ingested.c.ingested_at.label("at")).where(
                ingested.c.family == family, ingested.c.source == source
            ),
            select(tags.c.delivery, tags.c.digest, tags.c.seen_at.label("at")).where(
                tags.c.family == family, tags.c.source == source, tags.c.mark == SEEN
            ),
        )
        with self._engine.connect() as connection:
            rows = [row for query in queries for row in connection.execute(query)]
        return {row.delivery: row.digest for row in sorted(rows, key=lambda row: row.at)}

    def note_tag(self, family: str, source: str, delivery: str, mark: str, tag: str, digest: str, at: datetime) -> None:
        """Notes what a place said of a content (ETags and the like), so that it is not fetched again to be known.

        Args:
            mark: How it was read: read otherwise, the same bytes are another content.
        """
        values = {
            "family": family, "source": source, "delivery": delivery, "mark": mark, "tag": tag, "digest": digest,
            "seen_at": at,
        }  # fmt: skip
        self._insert(schema.delivery_tags, values)

    def versions(self, family: str) -> list[VersionEntry]:
        """Published versions, the newest first."""
        table = schema.dataset_versions
        query = select(table).where(table.c.family == family).order_by(desc(table.c.id))
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            VersionEntry(row.family, row.version, row.fingerprint, row.manifest_key, row.published_at) for row in rows
        ]

    def add_version(self, entry: VersionEntry) -> bool:
        """Adds a version. False, and nothing changes, where its name or its content is there already."""
        values = {
            "family": entry.family, "version": entry.version, "fingerprint": entry.fingerprint,
            "manifest_key": entry.manifest_key, "published_at": entry.published_at,
        }  # fmt: skip
        return self._insert(schema.dataset_versions, values)

    def _insert(self, table: Table, values: dict[str, Any]) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table).values(**values))
        except IntegrityError:
            return False
        return True


def _delivery(row: Row[Any]) -> IngestedDelivery:
    return IngestedDelivery(
        delivery=row.delivery,
        delivered_on=date.fromisoformat(row.delivered_on),
        digest=row.digest,
        rows_in=row.rows_in,
        batch_key=row.batch_key,
    )
