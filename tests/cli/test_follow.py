"""Following a run: progress, outages, failures with the end of the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.cli import follow as module
from include.cli.follow import failure, follow
from include.cli.output import Output
from include.cli.views import PlainView, progress_text
from include.embedded.airflow_api import AirflowApi, AirflowApiError, Run
from include.steps.document import progress_key, run_key
from include.store.objects import ObjectStore, open_store

RUN = Run("d", "r", "running", None, None)
START = "2026-11-02T00:00:00+00:00"


def task(task_id: str, state: str | None, **more: Any) -> dict[str, Any]:
    started = None if state is None else START
    return {"task_id": task_id, "map_index": -1, "state": state, "try_number": 1, "start_date": started, **more}


class FakeAirflow:
    """Shows one (run state, tasks) after the other; an exception stands for an outage."""

    def __init__(self, *moments: tuple[str, list[dict[str, Any]]] | Exception) -> None:
        self.moments = list(moments)
        self.now: tuple[str, list[dict[str, Any]]] = ("running", [])

    def api(self) -> AirflowApi:
        return AirflowApi("http://airflow", "a", "b", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        if path.endswith("/dagRuns/r"):
            moment = self.moments.pop(0) if self.moments else self.now
            if isinstance(moment, Exception):
                raise moment
            self.now = moment
            return httpx.Response(200, json={"dag_id": "d", "dag_run_id": "r", "state": moment[0]})
        if path.endswith("/dagRuns"):
            other = {"dag_id": "d", "dag_run_id": "scheduled__1", "state": "running"}
            return httpx.Response(200, json={"dag_runs": [other]})
        if path.endswith("/taskInstances"):
            return httpx.Response(200, json={"task_instances": self.now[1], "total_entries": len(self.now[1])})
        if "/logs/" in path:
            return httpx.Response(200, json={"content": [{"event": f"line {i}"} for i in range(50)]})
        return httpx.Response(404, json={"detail": "no"})


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path.as_uri())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_a_run_is_followed_to_its_end_with_the_progress_of_its_steps(store: ObjectStore) -> None:
    record = {"step": "sweep", "done": 3, "total": 8, "unit": "trials", "facts": {"best": 0.83121}}
    store.put(progress_key(run_key("d", "r"), "sweep", 1), json.dumps(record).encode())
    airflow = FakeAirflow(
        ("running", [task("later", None), task("sweep", "running", map_index=1), task("first", "success")]),
        ("success", [task("first", "success")]),
    )
    seen = []
    last = follow(airflow.api(), store, RUN, seen.append)
    assert [t.name for t in seen[0].tasks] == ["first", "sweep[1]", "later"]
    assert progress_text(seen[0].progress["sweep[1]"]) == "3/8 trials, best 0.8312"
    assert last.run.state == "success" and last.succeeded("first") and not last.succeeded("later")


def test_a_run_that_waits_for_another_says_so(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    airflow = FakeAirflow(("queued", []), ("queued", []), ("success", []))
    follow(airflow.api(), store, RUN, PlainView(Output()).show)
    assert capsys.readouterr().out.count("waits for run scheduled__1") == 1


def test_a_moments_silence_is_waited_out(store: ObjectStore) -> None:
    airflow = FakeAirflow(*[httpx.ConnectError("refused")] * 6, ("success", []))
    assert follow(airflow.api(), store, RUN, lambda snapshot: None).run.ended


def test_a_longer_silence_is_told(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OUTAGE_SECONDS", -1.0)
    with pytest.raises(AirflowApiError, match="does not answer"):
        follow(FakeAirflow(*[httpx.ConnectError("refused")] * 9).api(), store, RUN, lambda snapshot: None)


def test_a_run_that_does_not_exist_is_told_at_once(store: ObjectStore) -> None:
    with pytest.raises(AirflowApiError, match="no run 'nix'"):
        follow(FakeAirflow().api(), store, Run("d", "nix", "queued", None, None), lambda snapshot: None)


def test_a_progress_record_that_is_being_damaged_is_left_out(store: ObjectStore) -> None:
    store.put(progress_key(run_key("d", "r"), "fit", 0), b"{")
    airflow = FakeAirflow(("success", [task("fit", "running")]))
    assert follow(airflow.api(), store, RUN, lambda snapshot: None).progress == {}


def test_a_failure_names_the_task_and_the_end_of_its_log(store: ObjectStore) -> None:
    airflow = FakeAirflow(("failed", [task("fit", "failed", try_number=3), task("gate", "upstream_failed")]))
    api = airflow.api()
    error = failure(api, follow(api, store, RUN, lambda snapshot: None))
    assert "task fit of d failed after 3 tries" in error.message
    assert error.fields["tail"].splitlines()[-1] == "line 49"
    assert error.fields["tasks"] == ["fit"]


def test_a_failed_run_without_a_failed_task_points_to_the_ui(store: ObjectStore) -> None:
    api = FakeAirflow(("failed", [])).api()
    error = failure(api, follow(api, store, RUN, lambda snapshot: None))
    assert "http://airflow/dags/d/runs/r" in error.hint


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"done": 1, "total": 0, "facts": {}}, ""),
        ({"done": 1.5, "total": 3, "unit": "epochs", "facts": None}, "1.5/3 epochs"),
        ({"total": 3, "done": 0, "facts": {"a": {"b": 1}, "c": "x" * 300}}, None),
    ],
)
def test_progress_fits_on_a_line(record: dict[str, Any], text: str | None) -> None:
    shown = progress_text(record)
    assert shown == text if text is not None else len(shown) <= 110


def test_progress_tells_the_time_that_is_left_when_it_is_worth_a_word() -> None:
    record = {"done": 3, "total": 8, "unit": "steps", "facts": {}}
    assert progress_text({**record, "seconds_left": 200.4}) == "3/8 steps, 3 min left"
    assert progress_text({**record, "seconds_left": 45}) == "3/8 steps, 45 s left"
    assert progress_text({**record, "seconds_left": 2}) == "3/8 steps"
