"""Connections of sources travel from Airflow into the step's environment, and nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from include.data.sources.credentials import find_credentials
from include.spec.models import FamilySpec
from plugins.windtunnel.connections import connection_variables, trigger_connection_variables
from tests.fakes.tiny_family import tiny_spec


def spec() -> FamilySpec:
    source = {"role": "feedback", "url": "https://host/feed.csv", "table": "questions", "connection": "feed-api"}
    data: dict[str, Any] = {
        "suite": "tiny",
        "tables": {"questions": {"key": "question_id"}},
        "sources": {"plain": {"role": "benchmark", "url": "sample"}, "feed": source},
    }
    return tiny_spec(data=data)


def test_a_connection_of_airflow_becomes_a_variable_that_the_step_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Connection(conn_id="feed-api", conn_type="http", host="host", login="me", password="p@ss/word:1")
    monkeypatch.setattr(Connection, "get", classmethod(lambda cls, name: {"feed-api": made}[name]))
    found = connection_variables(spec())
    assert list(found) == ["AIRFLOW_CONN_FEED-API"]
    read = find_credentials("feed-api", found)
    assert (read.kind, read.host, read.login, read.password) == ("http", "host", "me", "p@ss/word:1")


def test_the_triggerer_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Connection(conn_id="feed-api", conn_type="http", host="host", login="me", password="p@ss/word:1")

    async def get(cls: type, name: str) -> Connection:
        return {"feed-api": made}[name]

    monkeypatch.setattr(Connection, "async_get", classmethod(get))
    found = asyncio.run(trigger_connection_variables(spec()))
    assert find_credentials("feed-api", found).password == "p@ss/word:1"


def test_what_is_in_the_environment_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FEED-API", "http://me:secret@host")
    monkeypatch.setattr(Connection, "get", classmethod(lambda cls, name: pytest.fail("asked Airflow")))
    assert connection_variables(spec()) == {}


def test_a_connection_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(cls: type, name: str) -> Any:
        raise AirflowNotFoundException(name)

    monkeypatch.setattr(Connection, "get", classmethod(missing))
    with pytest.raises(AirflowFailException, match=r"(?s)'feed-api'.*what to do"):
        connection_variables(spec())
