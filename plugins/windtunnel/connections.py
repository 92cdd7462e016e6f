"""Airflow connections for steps: a step does not know Airflow, it finds its connections in its environment."""

from __future__ import annotations

import os

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from include.errors import UserError
from include.spec import AnyFamilySpec
from include.spec.sources import connection_variable


def connection_variables(spec: AnyFamilySpec) -> dict[str, str]:
    """`AIRFLOW_CONN_...` for the connections of the family's sources that are not in the environment already.

    Raises:
        AirflowFailException: There is no such connection.
    """
    found: dict[str, str] = {}
    for name in _missing(spec):
        try:
            found[connection_variable(name)] = Connection.get(name).get_uri()
        except AirflowNotFoundException:
            raise AirflowFailException(str(_unknown(name))) from None
    return found


async def trigger_connection_variables(spec: AnyFamilySpec) -> dict[str, str]:
    """The same, on the triggerer.

    Raises:
        UserError: There is no such connection.
    """
    found: dict[str, str] = {}
    for name in _missing(spec):
        try:
            found[connection_variable(name)] = await (await Connection.async_get(name)).aget_uri()
        except AirflowNotFoundException:
            raise _unknown(name) from None
    return found


def _missing(spec: AnyFamilySpec) -> list[str]:
    """Connections of the family's sources that the environment does not hold."""
    named = {source.connection for source in spec.data.sources.values() if source.connection}
    return sorted(name for name in named if not os.environ.get(connection_variable(name)))


def _unknown(name: str) -> UserError:
    hint = f"make it under Admin, Connections, or set {connection_variable(name)}"
    return UserError(f"there is no connection {name!r}", where="data.sources", hint=hint)
