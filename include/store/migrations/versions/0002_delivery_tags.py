"""What places say of the content of deliveries, so that unchanged ones are not fetched again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TABLE = "delivery_tags"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("source", sa.String(512), nullable=False),
        sa.Column("delivery", sa.String(128), nullable=False),
        sa.Column("mark", sa.String(64), nullable=False),
        sa.Column("tag", sa.String(512), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("family", "source", "delivery", "mark", "tag", name="delivery_tags_once"),
    )
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    for verb in ("UPDATE", "DELETE"):
        action = (
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            if on_postgresql
            else f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
        )
        op.execute(f"CREATE TRIGGER {TABLE}_no_{verb.lower()} BEFORE {verb} ON {TABLE} {action}")
    if on_postgresql:
        op.execute(
            f"CREATE TRIGGER {TABLE}_no_truncate BEFORE TRUNCATE ON {TABLE} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.drop_table(TABLE)
