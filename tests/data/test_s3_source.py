"""Sources in buckets: listed by day, fetched only where something changed, with the keys of a connection."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import boto3
import pytest

from include.data.sources.credentials import Credentials, SourceError
from include.data.sources.files import RemoteFile
from include.data.sources.s3 import S3Files
from include.errors import DataError
from include.settings import Settings

from .conftest import Deliveries, Pipeline, ask, make_spec


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were fetched."""
    names: list[str] = []
    fetch = S3Files.fetch

    def counting(self: S3Files, file: RemoteFile, folder: Path) -> Path:
        names.append(file.name)
        return fetch(self, file, folder)

    monkeypatch.setattr(S3Files, "fetch", counting)
    return names


def put(url: str, name: str, content: bytes) -> None:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=content)


def upload(url: str, folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            put(url, path.relative_to(folder).as_posix(), path.read_bytes())


def test_only_days_of_the_interval_and_only_what_changed_is_fetched(
    settings: Settings, source: Deliveries, s3_url: str, fetched: list[str]
) -> None:
    expected = Pipeline(settings, source.folder).run()
    upload(s3_url, source.folder)
    pipeline = Pipeline(settings, s3_url)
    window: dict[str, Any] = {"run": "r", "source": s3_url, "since": None, "until": "2026-10-13"}
    first = pipeline.step("ingest", window)
    assert [entry["delivery"] for entry in first["deliveries"]] == ["2026-10-12"]
    assert {name.partition("/")[0] for name in fetched} == {"2026-10-12"}
    fetched.clear()
    assert pipeline.run("all")["rows_in"] == expected["rows_in"]
    assert {name.partition("/")[0] for name in fetched} == {"2026-10-19"}
    fetched.clear()
    assert pipeline.run("again")["new"] is False
    assert fetched == []
    source.add("2026-10-19", {}, [ask(70), ask(71)])
    upload(s3_url, source.folder)
    fetched.clear()
    corrected = pipeline.step("ingest", {**window, "run": "corrected", "until": None})
    assert {name.partition("/")[0] for name in fetched} == {"2026-10-19"}
    assert corrected["deliveries"][1]["rows_in"] < 12


def declared(place: str, **changes: Any) -> Any:
    columns = {"question_id": "id", "citations": "cited", "document_id": "doc"}
    live = {"role": "production_queries", "url": place, "table": "questions", "columns": columns, **changes}
    tables = {"passages": {"key": "passage_key"}, "questions": {"key": "question_id", "min_valid_rate": 0}}
    return make_spec(data={"suite": "compliance_qa", "tables": tables, "sources": {"live": live}})


def line(number: int) -> bytes:
    record = {"id": f"q-{number}", "question": f"What of {number}?", "answer": None, "cited": ["AA:1"], "doc": "AA"}
    return json.dumps(record).encode() + b"\n"


def test_declared_files_with_the_keys_and_the_endpoint_of_a_connection(
    settings: Settings, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3_url, "in/questions-2026-10-12.jsonl.gz", gzip.compress(line(1) + line(2)))
    put(s3_url, "in/2026/20261013.jsonl", line(3))
    put(s3_url, "in/README.md", b"no data")
    extra = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"], "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "AKIA", "password": "s3cret-key", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    pipeline = Pipeline(settings, "", declared(f"{s3_url}/in", connection="lake"))
    made = pipeline.step("ingest", {"run": "r", "source": None, "since": None, "until": None})
    assert [(entry["delivery"], entry["rows_in"]) for entry in made["deliveries"]] == [
        ("live.2026-10-12", 2),
        ("live.2026-10-13", 1),
    ]


def test_a_source_may_be_one_object(settings: Settings, s3_url: str) -> None:
    put(s3_url, "one.jsonl", line(1))
    put(s3_url, "one.jsonl.old", line(2))
    pipeline = Pipeline(settings, "", declared(f"{s3_url}/one.jsonl", delivered_on="2026-10-12"))
    made = pipeline.step("ingest", {"run": "r", "source": None, "since": None, "until": None})
    assert [(entry["delivery"], entry["rows_in"]) for entry in made["deliveries"]] == [("live.one", 1)]


class TestRefusals:
    def test_a_bucket_that_is_not_there(self, s3_url: str, settings: Settings) -> None:
        with pytest.raises(DataError, match="NoSuchBucket"):
            Pipeline(settings, "s3://no-such-bucket-at-all/in").run()

    def test_an_object_that_is_too_large(self, s3_url: str, settings: Settings) -> None:
        put(s3_url, "2026-10-12.jsonl", line(1) * 100)
        pipeline = Pipeline(settings, "", declared(s3_url, max_file_bytes=5_000))
        with pytest.raises(DataError, match="more than 5000"):
            pipeline.step("ingest", {"run": "r", "source": None, "since": None, "until": None})

    def test_an_endpoint_that_is_away_is_worth_another_try(self, tmp_path: Path) -> None:
        extra = {"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1"}
        files = S3Files("s3://bucket/in", Credentials(login="AKIA", password="s3cret-key", extra=extra), 1_000)
        with pytest.raises(SourceError, match="cannot be reached"):
            files.fetch(RemoteFile("x", None), tmp_path)  # type: ignore[arg-type]
