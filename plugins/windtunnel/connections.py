"""Airflow connections for steps: a step does not know Airflow, it finds its connections in its environment."""

from __future__ import annotations

import os

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from include.spec import AnyFamilySpec


def connection_variables(spec: AnyFamilySpec) -> dict[str, str]:
    """`AIRFLOW_CONN_...` for the connections of the family's sources that are not in the environment already.

    Raises:
        AirflowFailException: There is no such connection.
    """
    from include.data.sources.credentials import variable  # its package reads files: too heavy for parsing DAGs

    found: dict[str, str] = {}
    for name, source in spec.data.sources.items():
        if source.connection and not os.environ.get(variable(source.connection)):
            try:
                found[variable(source.connection)] = Connection.get(source.connection).get_uri()
            except AirflowNotFoundException:
                raise AirflowFailException(
                    f"data.sources.{name}: there is no connection {source.connection!r}. What to do: make it under "
                    f"Admin, Connections, or set {variable(source.connection)}"
                ) from None
    return found
