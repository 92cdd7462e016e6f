"""Alembic's entry: migrates the connection that `include.store.database` hands over, in one transaction.

Python's SQLite driver opens a transaction before an INSERT, but not before a CREATE TABLE; without one of our own, a
process that dies half-way would leave half of the tables behind, and every later start would stumble over them.
"""

from alembic import context

from include.store.schema import metadata

connection = context.config.attributes["connection"]
if connection.dialect.name == "sqlite":
    connection.exec_driver_sql("BEGIN IMMEDIATE")
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
