"""Ledger and catalogue: the first tables, and the triggers that keep them append-only.

Written out rather than made from `include.store.schema`: a migration says what a database looked like at that time,
and must not change when the code does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TABLES = ("deliveries", "dataset_versions", "model_versions", "ledger", "routes", "decisions")
VERBS = ("UPDATE", "DELETE")


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("source", sa.String(512), nullable=False),
        sa.Column("delivery", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("delivered_on", sa.String(10), nullable=False),
        sa.Column("rows_in", sa.Integer, nullable=False),
        sa.Column("batch_key", sa.String(512), nullable=False),
        sa.Column("ingested_at", moment, nullable=False),
        sa.UniqueConstraint("family", "source", "delivery", "digest", name="deliveries_once"),
    )
    op.create_table(
        "dataset_versions",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("manifest_key", sa.String(512), nullable=False),
        sa.Column("published_at", moment, nullable=False),
        sa.UniqueConstraint("family", "version", name="dataset_versions_version"),
        sa.UniqueConstraint("family", "fingerprint", name="dataset_versions_fingerprint"),
    )
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("releasable", sa.Integer, nullable=False),
        sa.Column("mlflow_version", sa.String(32), nullable=False),
        sa.Column("dataset_version", sa.String(32), nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("registered_at", moment, nullable=False),
        sa.UniqueConstraint("family", "version", name="model_versions_version"),
        sa.UniqueConstraint("family", "fingerprint", name="model_versions_fingerprint"),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("model_version", sa.String(32)),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("event_key", sa.String(256), nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.UniqueConstraint("family", "event_key", name="ledger_once"),
    )
    op.create_index("ix_ledger_family", "ledger", ["family"])
    op.create_table(
        "routes",
        sa.Column("family", sa.String(64), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("table", sa.JSON, nullable=False),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("at", moment, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("code_version", sa.String(64), nullable=False),
        sa.Column("input", sa.JSON, nullable=False),
        sa.Column("output", sa.JSON, nullable=False),
        sa.Column("at", moment, nullable=False),
    )
    op.create_index("ix_decisions_family", "decisions", ["family"])
    _make_append_only(op.get_bind().dialect.name)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")


def _make_append_only(dialect: str) -> None:
    if dialect == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger AS $$ "
            "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"
        )
    for table in TABLES:
        for verb in VERBS:
            name = f"{table}_no_{verb.lower()}"
            if dialect == "postgresql":
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()"
                )
            else:
                refusal = f"SELECT RAISE(ABORT, '{table} is append-only')"
                op.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} BEGIN {refusal}; END")
        if dialect == "postgresql":  # TRUNCATE fires no row trigger
            op.execute(
                f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
