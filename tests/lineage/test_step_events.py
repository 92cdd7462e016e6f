"""Every step is told of, with what it read and made, and no trouble of the telling reaches the step."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from include.errors import DataError
from include.lineage import emitter
from include.settings import Settings
from include.spec import load_family
from include.steps.document import make_document
from include.steps.entry import EXIT_FINAL, EXIT_OK, StepContext, run_step
from include.store.objects import ObjectStore, StoreError, open_store

NOW = datetime(2026, 11, 2, tzinfo=UTC)
INPUTS = {"dataset_version": "1.2.0", "dataset_digest": "d" * 64, "hyperparameters": {"rate": 0.1}, "seed": 1}
OUTPUTS = {"digest": "m" * 64, "metrics": {"map": 0.5}}
FAMILY = "compliance_qa"


def context(settings: Settings, step: str = "fit", store: ObjectStore | None = None, **changes: Any) -> StepContext:
    document = make_document(
        step,
        "train__compliance_qa/manual",
        load_family(FAMILY),
        {**INPUTS, **changes},
        spec_parts=("model",),
        code_version="c1",
        created_at=NOW,
        context={"try_number": 2},
    )
    return StepContext(document, store or open_store(settings.store_url), settings)


def events(store: ObjectStore) -> list[dict[str, Any]]:
    return [json.loads(store.get(key)) for key in store.keys(f"lineage/{FAMILY}/")]


class TestSteps:
    def test_a_step_that_ends_well_is_a_start_and_a_complete_of_one_run(self, settings: Settings) -> None:
        given = context(settings)
        assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        start, complete = events(given.store)
        assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
        assert start["run"]["runId"] == complete["run"]["runId"]
        assert start["eventTime"] < complete["eventTime"]
        assert complete["job"] | {"facets": None} == {
            "namespace": "windtunnel", "name": "compliance_qa.fit", "facets": None,
        }  # fmt: skip
        assert complete["run"]["facets"]["parent"]["job"]["name"] == "train__compliance_qa"
        facts = complete["run"]["facets"]["windtunnel_run"]["facts"]
        assert (facts["attempt"], facts["fingerprint"]) == (2, given.document.fingerprint)
        assert start["outputs"] == []
        [read], [made] = complete["inputs"], complete["outputs"]
        assert (read["name"], read["facets"]["version"]["datasetVersion"]) == ("compliance_qa/data", "1.2.0")
        assert (made["name"], made["facets"]["version"]["datasetVersion"]) == ("compliance_qa/model", "m" * 64)
        assert made["facets"]["windtunnel_model"]["facts"]["metrics"] == {"map": 0.5}

    def test_a_training_that_starts_from_other_weights_reads_that_model(self, settings: Settings) -> None:
        given = context(settings, origins={"init_from": {"version": "1.0.0", "digest": "a" * 64}})
        assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        for event in events(given.store):
            read = {entry["name"]: entry["facets"]["version"]["datasetVersion"] for entry in event["inputs"]}
            assert read == {"compliance_qa/data": "1.2.0", "compliance_qa/model": "a" * 64}

    def test_a_step_that_fails_says_why_and_the_next_try_is_another_run(self, settings: Settings) -> None:
        given = context(settings)

        def broken(_: StepContext) -> dict[str, Any]:
            raise DataError("row 7 is empty", where="a.jsonl:7")

        assert run_step(given, broken) == EXIT_FINAL
        assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        told = events(given.store)
        assert [event["eventType"] for event in told] == ["START", "FAIL", "START", "COMPLETE"]
        assert told[1]["run"]["facets"]["errorMessage"]["message"] == "DataError: row 7 is empty"
        assert told[1]["run"]["runId"] != told[2]["run"]["runId"]

    def test_work_that_is_not_done_again_is_not_told_again(self, settings: Settings) -> None:
        given = context(settings)
        for _ in range(2):
            assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        assert len(events(given.store)) == 2

    def test_a_sweep_and_an_evaluation(self, settings: Settings) -> None:
        swept = context(settings, "sweep", study="s-1", trials=2)
        assert run_step(swept, lambda _: {"study": "s-1"}) == EXIT_OK
        assert [made["name"] for made in events(swept.store)[-1]["outputs"]] == ["compliance_qa/study"]
        champion = {"version": "1.0.0", "digest": "c" * 64}
        judged = context(settings, "evaluate", candidate="m" * 64, champion=champion)
        report = {"report_key": "steps/r.json", "summary": {"map": {"value": 0.5}}}
        assert run_step(judged, lambda _: report) == EXIT_OK
        last = events(judged.store)[-1]
        versions = [read["facets"]["version"]["datasetVersion"] for read in last["inputs"]]
        assert versions == ["1.2.0", "m" * 64, "c" * 64]
        [symlink] = last["outputs"][0]["facets"]["symlinks"]["identifiers"]
        assert (symlink["namespace"], symlink["name"].endswith("/store/steps/r.json")) == ("file", True)

    def test_the_namespace_is_the_installations(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "factory-7")
        given = context(settings)
        run_step(given, lambda _: OUTPUTS)
        last = events(given.store)[-1]
        assert {last["job"]["namespace"], last["outputs"][0]["namespace"]} == {"factory-7"}


class TestTrouble:
    def test_a_store_that_takes_no_event_does_not_fail_the_step(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        store = open_store(settings.store_url)
        put = store.put

        def refuse(key: str, data: bytes) -> None:
            if key.startswith("lineage/"):
                raise StoreError("the disk is full", key=key)
            put(key, data)

        monkeypatch.setattr(store, "put", refuse)
        given = context(settings, store=store)
        assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        assert store.exists(given.document.result_key)
        assert "the disk is full" in capfd.readouterr().err

    def test_outputs_that_nobody_foresaw_do_not_fail_the_step(self, settings: Settings) -> None:
        given = context(settings)
        assert run_step(given, lambda _: {"other": 1}) == EXIT_OK
        assert [event["eventType"] for event in events(given.store)] == ["START"]

    def test_a_catalogue_that_hangs_costs_at_most_the_time_for_sending(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, catalogue: Catalogue
    ) -> None:
        catalogue.seconds = 30.0
        monkeypatch.setattr(emitter, "SEND_SECONDS", 0.2)
        monkeypatch.setenv("OPENLINEAGE_URL", catalogue.url)
        given = context(settings)
        began = time.monotonic()
        assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        assert time.monotonic() - began < 10
        assert len(events(given.store)) == 2

    def test_nothing_is_told_where_it_is_switched_off(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
        given = context(settings)
        assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        assert events(given.store) == []


class TestForwarding:
    def test_events_also_go_where_the_client_is_configured_to_send_them(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, catalogue: Catalogue
    ) -> None:
        monkeypatch.setenv("OPENLINEAGE_URL", catalogue.url)
        given = context(settings)
        assert run_step(given, lambda _: OUTPUTS) == EXIT_OK
        assert [event["eventType"] for event in catalogue.received] == ["START", "COMPLETE"]
        assert [event["run"]["runId"] for event in catalogue.received] == [
            event["run"]["runId"] for event in events(given.store)
        ]

    def test_the_clients_own_file_transport_works_as_its_manual_says(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = settings.home / "events.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(file))
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
        assert run_step(context(settings), lambda _: OUTPUTS) == EXIT_OK
        told = [json.loads(line) for line in file.read_text().splitlines()]
        assert [event["eventType"] for event in told] == ["START", "COMPLETE"]


class Catalogue:
    """A lineage catalogue on a real socket."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.stopped.wait(outer.seconds)
                outer.received.append(json.loads(body))
                self.send_response(201)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return None

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    made = Catalogue()
    yield made
    made.stopped.set()
    made.server.shutdown()
    made.server.server_close()
