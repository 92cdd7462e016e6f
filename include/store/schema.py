"""Tables of the ledger and catalogue database (SQLAlchemy Core).

All of them are append-only: a fact is added, never changed. The database itself refuses UPDATE and DELETE on the tables
in `APPEND_ONLY` (triggers, made by the migration). What is unique is what makes a step safe to repeat: a second run of
the same work meets the row of the first.

The migrations under `migrations/versions` create the same tables, written out; a test holds the two against each other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Integer, MetaData, String, Table, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in time: an aware `datetime` goes in, an aware UTC `datetime` comes out.

    SQLite drops the time zone of what it stores, so that a moment written at 09:00+02:00 would come back as 09:00 and
    "what served at time T" would be two hours off. A naive `datetime` is refused: nobody knows which moment it means.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment needs a time zone: {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


#: A delivery of a source that was ingested: once per content.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("family", String(64), nullable=False),
    Column("source", String(512), nullable=False),
    Column("delivery", String(128), nullable=False),  # name of the delivery at the source
    Column("digest", String(64), nullable=False),  # sha256 of its content
    Column("delivered_on", String(10), nullable=False),  # ISO date: the watermark is its maximum
    Column("rows_in", Integer, nullable=False),
    Column("batch_key", String(512), nullable=False),  # object-store prefix of the raw batch
    Column("ingested_at", UtcDateTime, nullable=False),
    UniqueConstraint("family", "source", "delivery", "digest", name="deliveries_once"),
)

#: What a place said of a delivery's content when it was read, such as ETags: equal tags, equal content.
delivery_tags = Table(
    "delivery_tags",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("family", String(64), nullable=False),
    Column("source", String(512), nullable=False),
    Column("delivery", String(128), nullable=False),
    Column("mark", String(64), nullable=False),  # fingerprint of how it was read
    Column("tag", String(512), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    UniqueConstraint("family", "source", "delivery", "mark", "tag", name="delivery_tags_once"),
)

#: A published dataset version.
dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("family", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("manifest_key", String(512), nullable=False),
    Column("published_at", UtcDateTime, nullable=False),
    UniqueConstraint("family", "version", name="dataset_versions_version"),
    UniqueConstraint("family", "fingerprint", name="dataset_versions_fingerprint"),
)

#: A registered model version: passed its gates, or is a baseline, or came from a backfill and may not be released.
model_versions = Table(
    "model_versions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("family", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("digest", String(64), nullable=False),  # of the model package
    Column("verdict", String(16), nullable=False),
    Column("releasable", Integer, nullable=False),  # 0: baseline kept for comparison, backfill
    Column("mlflow_version", String(32), nullable=False),
    Column("dataset_version", String(32), nullable=False),
    Column("record", JSON, nullable=False),  # parameters, metrics, code version, run, creator, size
    Column("registered_at", UtcDateTime, nullable=False),
    UniqueConstraint("family", "version", name="model_versions_version"),
    UniqueConstraint("family", "fingerprint", name="model_versions_fingerprint"),
)

#: Everything that happened to a family's releases, in order.
ledger = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("family", String(64), nullable=False, index=True),
    Column("event", String(32), nullable=False),
    Column("model_version", String(32)),
    Column("actor", String(256), nullable=False),
    Column("event_key", String(256), nullable=False),  # makes a repeated append a no-op
    Column("record", JSON, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    UniqueConstraint("family", "event_key", name="ledger_once"),
)

#: Routing tables. Generation N + 1 can be inserted once: that is the compare-and-swap.
routes = Table(
    "routes",
    metadata,
    Column("family", String(64), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("table", JSON, nullable=False),  # RoutingTable
    Column("reason", String(256), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

#: Inputs and outputs of decisions, so that they can be replayed.
decisions = Table(
    "decisions",
    metadata,
    Column("id", String(64), primary_key=True),  # fingerprint of (kind, input, code version)
    Column("family", String(64), nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("code_version", String(64), nullable=False),
    Column("input", JSON, nullable=False),
    Column("output", JSON, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

APPEND_ONLY = tuple(metadata.tables)
