"""Bad input through the real entry point: a clear error, the right exit status, and nothing left behind that counts."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.data.catalogue import Catalogue
from include.data.sources import source_id
from include.settings import Settings
from include.steps.entry import EXIT_FINAL, EXIT_OK, EXIT_RETRY, main
from include.store.database import open_database

from .conftest import FAMILY, ROOT, Deliveries, Pipeline, ask

STEPS = {"ingest": "include.data.ingest:ingest", "validate": "include.data.validate:validate"}


def ingest(settings: Settings, source: Path | str) -> tuple[int, dict[str, Any]]:
    """Exit status and stored error of the step, started as its process starts it."""
    pipeline = Pipeline(settings, source)
    document = pipeline.document("ingest", {"run": "r", "source": str(source), "since": None, "until": None})
    status = main(STEPS, "include.data", ["ingest", "--run", pipeline.store.uri(document.document_key)])
    error = pipeline.store.get(document.error_key) if pipeline.store.exists(document.error_key) else b"{}"
    return status, json.loads(error)


def damage(source: Deliveries, kind: str) -> None:
    first = source.folder / "2026-10-12"
    questions, document = first / "questions.jsonl", first / "documents" / "AA.json"
    if kind == "empty file":
        questions.write_bytes(b"")
    elif kind == "truncated document":
        document.write_bytes(document.read_bytes()[:-40])
    elif kind == "document not UTF-8":
        document.write_bytes(document.read_bytes().replace(b"Rule 1", b"R\xfcle 1"))
    elif kind == "document of another schema":
        document.write_text('{"rules": []}')
    elif kind == "questions of another schema":
        questions.write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    elif kind == "garbage":
        questions.write_bytes(os.urandom(100_000))
    elif kind == "UTF-16":
        questions.write_bytes(questions.read_bytes().decode("latin-1").encode("utf-16"))
    elif kind == "empty document":
        document.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "file", "message"),
    [
        ("empty file", "questions.jsonl", "the file is empty"),
        ("truncated document", "AA.json:1", "ends too early"),
        ("document not UTF-8", "AA.json:1", "not UTF-8"),
        ("document of another schema", "AA.json:1", "not a document"),
        ("questions of another schema", "questions.jsonl:1", "'question_id' is missing"),
        ("garbage", "questions.jsonl:", "not one of"),
        ("UTF-16", "questions.jsonl:1", "the file is UTF-16"),
        ("empty document", "AA.json", "the file is empty"),
    ],
)
def test_a_file_that_cannot_be_used(
    settings: Settings, source: Deliveries, capfd: pytest.CaptureFixture[str], kind: str, file: str, message: str
) -> None:
    damage(source, kind)
    status, error = ingest(settings, source.folder)
    assert status == EXIT_FINAL
    assert error["kind"] == "data"
    assert file in error["where"]
    assert message in error["message"]
    assert error["hint"]
    shown = capfd.readouterr().err
    assert message in shown
    assert "what to do" in shown
    assert "Traceback" not in shown
    assert Catalogue(open_database(settings.database_url)).deliveries(FAMILY, source_id(str(source.folder))) == []


def test_a_missing_source(settings: Settings, tmp_path: Path) -> None:
    status, error = ingest(settings, tmp_path / "none")
    assert (status, error["kind"]) == (EXIT_FINAL, "data")
    assert error["where"] == str(tmp_path / "none")
    assert "does not exist" in error["message"]


def test_an_empty_source(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    status, error = ingest(settings, tmp_path / "empty")
    assert (status, error["kind"]) == (EXIT_FINAL, "data")
    assert "is empty" in error["message"]


def test_an_unknown_kind_of_source(settings: Settings) -> None:
    status, error = ingest(settings, "ftp://somewhere/data")
    assert (status, error["kind"]) == (EXIT_FINAL, "user")
    assert "s3://" in error["hint"]


def test_a_cut_off_last_line_costs_one_row(settings: Settings, source: Deliveries) -> None:
    file = source.folder / "2026-10-19" / "questions.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    status, _ = ingest(settings, source.folder)
    assert status == EXIT_OK
    made = Pipeline(settings, source.folder).run()
    assert made["reasons"]["malformed_json"] == 2
    assert made["rows_in"] == 38


def test_a_record_that_is_too_long_costs_one_row(settings: Settings, source: Deliveries) -> None:
    source.add("2026-10-26", {}, [ask(70), ask(71, question="x" * 1_100_000), ask(72), ask(73)])
    made = Pipeline(settings, source.folder).run()
    assert made["reasons"]["too_long"] == 1
    assert made["rows_in"] == 42


def test_a_store_that_cannot_be_written(settings: Settings, source: Deliveries, tmp_path: Path) -> None:
    """The folder of raw batches is a file: permissions would not stop root."""
    (settings.home / "store").mkdir(parents=True)
    (settings.home / "store" / "raw").write_text("in the way")
    status, error = ingest(settings, source.folder)
    assert (status, error["kind"]) == (EXIT_RETRY, "system")
    assert "cannot write 'raw/" in error["message"]
    assert "disk is not full" in error["hint"]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["ingest", "validate", "publish"])
def test_a_full_disk_is_told_and_mended_by_a_retry(settings: Settings, source: Deliveries, step: str) -> None:
    """No file may grow beyond a few bytes: what the step meets is what a full disk gives, an error from `write`."""
    pipeline = Pipeline(settings, source.folder)
    expected = Pipeline(Settings.from_env({"WINDTUNNEL_HOME": f"{settings.home}-reference"}), source.folder).run()
    given: dict[str, Any] = {"run": "r1", "source": pipeline.source, "since": None, "until": None}
    if step != "ingest":
        given = {"deliveries": pipeline.step("ingest", given)["deliveries"]}
    if step == "publish":
        given = {"checked": pipeline.step("validate", given)["checked"], "source": pipeline.source}
    open_database(settings.database_url)
    document = pipeline.document(step, given)
    command = [sys.executable, "-m", "include.data", step, "--run", pipeline.store.uri(document.document_key)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900)),
    )
    assert done.returncode == EXIT_RETRY, done.stdout + done.stderr
    assert "disk is not full" in done.stderr
    assert not pipeline.store.exists(document.result_key)
    made = pipeline.run()
    assert (made["dataset_version"], made["dataset_digest"]) == ("1.0.0", expected["dataset_digest"])
