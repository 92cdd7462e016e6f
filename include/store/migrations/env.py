"""Alembic's entry: migrates the connection that `include.store.database` hands over."""

from alembic import context

from include.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
