"""A secret goes to the source, and nowhere else: not into a log, a run document, a record, a table or an error."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from include.data.sources.credentials import Credentials, find_credentials
from include.errors import UserError
from include.settings import Settings
from include.spec import SpecError, parse_params
from include.spec.load import FAMILIES, parse_spec
from tests.servers.scripted_http import Answer, ScriptedServer

from .conftest import ROOT, Pipeline, make_spec

LOGIN, SECRET = "feed-reader", "hunter22-%@:/ü"
PLANTED = (SECRET.encode(), b"hunter22", base64.b64encode(f"{LOGIN}:{SECRET}".encode()))
BODY = b"id,question,cited,doc\nq-1,What?,[],AA\nq-2,Why?,[],AA\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.stop()


def pipeline_of(settings: Settings, source: dict[str, Any]) -> Pipeline:
    columns = {"question_id": "id", "citations": "cited", "document_id": "doc"}
    live = {"role": "feedback", "table": "questions", "connection": "feed", "columns": columns, **source}
    tables = {"passages": {"key": "passage_key"}, "questions": {"key": "question_id", "min_valid_rate": 0}}
    return Pipeline(
        settings, "", make_spec(data={"suite": "compliance_qa", "tables": tables, "sources": {"live": live}})
    )


def run(pipeline: Pipeline, step: str, inputs: dict[str, Any], connection: str) -> tuple[int, bytes]:
    """Exit status and everything that the step's process said."""
    document = pipeline.document(step, inputs)
    command = [sys.executable, "-m", "include.data", step, "--run", pipeline.store.uri(document.document_key)]
    environment = {**os.environ, **pipeline.settings.to_env(), "PYTHONPATH": str(ROOT), "AIRFLOW_CONN_FEED": connection}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def everything(home: Path) -> Iterator[tuple[Path, bytes]]:
    for path in home.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def assert_clean(settings: Settings, said: bytes) -> None:
    found = [str(path) for path, data in everything(settings.home) if any(secret in data for secret in PLANTED)]
    assert found == []
    assert not any(secret in said for secret in PLANTED)
    assert not any(json.dumps(SECRET)[1:-1].encode() in data for _, data in everything(settings.home))


CONNECTION = json.dumps({"conn_type": "http", "login": LOGIN, "password": SECRET})
GIVEN = {"run": "r", "source": None, "since": None, "until": None}


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 401, 500])
def test_of_http_in_every_output(settings: Settings, server: ScriptedServer, status: int) -> None:
    server.script["/feed.csv"] = [Answer(BODY, status, {"Retry-After": "0"})]
    pipeline = pipeline_of(settings, {"url": f"{server.url}/feed.csv"})
    code, said = run(pipeline, "ingest", GIVEN, CONNECTION)
    assert code == {200: 0, 401: 2, 500: 1}[status], said.decode()
    sent = base64.b64encode(f"{LOGIN}:{SECRET}".encode()).decode()
    assert server.asked[0][1]["authorization"] == f"Basic {sent}"
    assert_clean(settings, said)
    assert list(everything(settings.home))


@pytest.mark.slow
@pytest.mark.parametrize("password", ["right", "wrong"])
def test_of_a_database_in_every_output(settings: Settings, postgres_url: str, password: str) -> None:
    url = make_url(postgres_url)
    query = "select 'q-1' as id, :since as a, :until as b, timestamp '2026-10-12' as at"
    source = {
        "url": f"postgresql://{url.host}:{url.port}/{url.database}",
        "sql": {"query": query, "watermark": "at"},
    }
    secret = url.password if password == "right" else SECRET
    connection = json.dumps({"conn_type": "postgres", "login": url.username, "password": secret})
    code, said = run(pipeline_of(settings, source), "ingest", GIVEN, connection)
    assert code == 2
    assert (b"not one of 1 records" in said) == (password == "right")  # the row has no question
    assert (b"authentication failed" in said) == (password == "wrong")
    assert str(secret).encode() not in said
    assert not [path for path, data in everything(settings.home) if str(secret).encode() in data]


class TestConnections:
    @pytest.mark.parametrize(
        "value",
        [
            "http://feed-reader:hunter22-%25%40%3A%2F%C3%BC@host:81/base?region_name=eu",
            json.dumps(
                {"conn_type": "http", "login": LOGIN, "password": SECRET, "host": "host", "port": "81",
                 "schema": "base", "extra": '{"region_name": "eu"}'}
            ),
        ],
    )  # fmt: skip
    def test_both_forms_of_airflow_are_read(self, value: str) -> None:
        found = find_credentials("feed", {"AIRFLOW_CONN_FEED": value})
        assert (found.kind, found.host, found.port, found.schema) == ("http", "host", 81, "base")
        assert (found.login, found.password, found.extra) == (LOGIN, SECRET, {"region_name": "eu"})

    @pytest.mark.parametrize(
        "value", ['{"password": "hunter22', "hunter22", '{"extra": "[hunter22]"}', "http://x:y@h:hunter22/"]
    )
    def test_one_that_cannot_be_read_is_not_repeated(self, value: str) -> None:
        with pytest.raises(UserError, match="cannot be read") as caught:
            find_credentials("feed", {"AIRFLOW_CONN_FEED": value})
        assert "hunter22" not in f"{caught.value} {caught.value.to_json()}"

    def test_one_that_is_missing_says_which_variable(self) -> None:
        with pytest.raises(UserError, match="AIRFLOW_CONN_FEED"):
            find_credentials("feed", {})

    def test_printing_shows_nothing_and_scrubbing_takes_all_out(self) -> None:
        made = Credentials(
            login=LOGIN, password=SECRET, extra={"headers": {"X-Key": "other-secret"}, "region_name": "eu"}
        )
        assert "hunter22" not in repr(made)
        assert "other-secret" not in repr(made)
        text = made.scrub(f"no {SECRET} of {LOGIN} or other-secret in eu")
        assert text == "no *** of *** or *** in eu"


SECRET_URLS = [
    "https://me:hunter22@host/x.csv",
    "https://host/x.csv?X-Amz-Signature=hunter22",
    "https://host/x.csv?api_token=hunter22",
    "postgresql://me:hunter22@host/db",
    "s3://key:hunter22@bucket/in",
]


class TestSpecs:
    @pytest.mark.parametrize("url", SECRET_URLS)
    def test_a_secret_in_a_spec_is_refused_by_line_and_not_repeated(self, tmp_path: Path, url: str) -> None:
        folder = tmp_path / "compliance_qa"
        folder.mkdir()
        text = (FAMILIES / "compliance_qa" / "family.yaml").read_text()
        (folder / "family.yaml").write_text(text.replace("url: sample", f'url: "{url}"'))
        with pytest.raises(SpecError, match="connection") as caught:
            parse_spec(folder / "family.yaml")
        problem = caught.value.fields["problems"][0]
        assert problem["field"] == "data.sources.sample.url"
        assert "url:" in text.splitlines()[problem["line"] - 1]
        assert "hunter22" not in json.dumps(caught.value.to_json())

    @pytest.mark.parametrize("url", SECRET_URLS)
    def test_or_in_the_parameters_of_a_run(self, url: str) -> None:
        with pytest.raises(UserError, match="connection") as caught:
            parse_params({"source": url})
        assert "hunter22" not in str(caught.value)
