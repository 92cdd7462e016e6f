"""The REST client: what it sends, what it makes of the answers, and what it says when there are none."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest

from include.embedded import airflow_api as module
from include.embedded.airflow_api import AirflowApi, AirflowApiError, log_lines


def api(handler) -> AirflowApi:  # type: ignore[no-untyped-def]
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        return handler(request)

    return AirflowApi("http://airflow", "admin", "x", transport=httpx.MockTransport(answer))


def test_a_trigger_sends_every_field_of_the_form() -> None:
    sent: list[dict[str, object]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"params": {"seed": {"value": 0}, "source": {"value": None}}})
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"dag_id": "d", "dag_run_id": "r", "state": "queued"})

    run = api(handler).trigger("d", {"seed": 4})
    assert (run.run_id, run.ended) == ("r", False)
    assert sent == [{"logical_date": None, "conf": {"seed": 4, "source": None}, "note": None}]


def test_a_field_that_the_form_does_not_have_is_told() -> None:
    with pytest.raises(AirflowApiError, match="no parameter 'sede'") as caught:
        api(lambda request: httpx.Response(200, json={"params": {"seed": {"value": 0}}})).trigger("d", {"sede": 4})
    assert "seed" in caught.value.hint


def test_a_value_that_airflow_refuses_is_told() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"params": {"seed": {"value": 0}}})
        return httpx.Response(422, json={"detail": [{"loc": ["body", "conf", "seed"], "msg": "not an integer"}]})

    with pytest.raises(AirflowApiError, match=r"body\.conf\.seed: not an integer"):
        api(handler).trigger("d", {"seed": "x"})


def test_an_expired_token_is_renewed() -> None:
    answers = [httpx.Response(401), httpx.Response(200, json={"import_errors": []})]
    assert api(lambda request: answers.pop(0)).import_errors() == []


def test_reads_are_tried_again_and_writes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        if len(calls) < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"import_errors": []})

    assert api(handler).import_errors() == []
    calls.clear()
    with pytest.raises(AirflowApiError, match="does not answer"):
        api(handler).set_paused("d", False)
    assert calls == ["PATCH"]


def test_all_pages_of_tasks_are_read() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        items = [{"task_id": f"t{i}", "map_index": -1} for i in range(offset, min(offset + 100, 130))]
        return httpx.Response(200, json={"task_instances": items, "total_entries": 130})

    assert len(api(handler).tasks("d", "r")) == 130


def test_run_ids_with_odd_characters_are_quoted() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path.decode())
        return httpx.Response(404, json={"detail": "no"})

    assert api(handler).run("d", "manual__2026-11-02T00:00:00+00:00") is None
    assert seen == ["/api/v2/dags/d/dagRuns/manual__2026-11-02T00%3A00%3A00%2B00%3A00"]


def test_a_tasks_seconds_run_on_while_it_runs() -> None:
    item = {"task_id": "t", "map_index": 1, "start_date": "2026-11-02T00:00:00+00:00", "try_number": 1}
    running = module._task(item)
    assert running.name == "t[1]"
    assert running.seconds(datetime(2026, 11, 2, 0, 0, 5, tzinfo=UTC)) == 5
    assert module._task({"task_id": "t", "map_index": -1}).seconds(datetime.now(UTC)) is None


def test_log_lines_are_readable() -> None:
    content = [
        {"event": "::group::Log message source details"},
        {"event": "/home/somebody/attempt=1.log"},
        {"event": "::endgroup::"},
        {"event": "starting", "level": "info"},
        {
            "event": "Task failed\nbadly",
            "level": "error",
            "error_detail": [{"exc_type": "ValueError", "exc_value": "x"}],
        },
    ]
    assert log_lines(content) == ["starting", "ERROR Task failed", "badly", "  ValueError: x"]
