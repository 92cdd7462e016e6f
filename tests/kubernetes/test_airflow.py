"""A real Airflow (scheduler, triggerer, API server) with steps in real pods, and its processes killed under them."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from benchmarks.plain_airflow import PlainAirflow
from include.embedded.airflow_api import Run
from tests.kubernetes.cluster import Site
from tests.kubernetes.conftest import HERE, environment_on, wait_for

DAG_ID = "steps"
SECONDS = 300

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def airflow(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    dags, code = folder / "dags", folder / "code"
    dags.mkdir()
    (code / "scripted").mkdir(parents=True)
    (code / "scripted" / "__init__.py").write_text("")
    shutil.copy(HERE / "scripted_step.py", code / "scripted" / "__main__.py")
    shutil.copy(HERE / "dags.py", dags / "steps.py")
    home = folder / "home"
    environment = {
        **environment_on(site, folder, code),
        "WINDTUNNEL_HOME": str(home),
        "LINGER": str(folder / "linger"),
        # How soon a dead worker is noticed: while its pod still runs.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    }
    with PlainAirflow(home, dags, environment) as made:
        made.until(lambda: made.api.dag(DAG_ID), SECONDS, "DAG")
        made.api.set_paused(DAG_ID, False)
        yield made


def _path(run: Run) -> str:
    return f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id)}/taskInstances/fit"


def _task(airflow: PlainAirflow, run: Run) -> dict[str, Any]:
    return dict(airflow.api.request("GET", _path(run)))


def _deferred(airflow: PlainAirflow, run: Run) -> None:
    airflow.until(lambda: _task(airflow, run)["state"] == "deferred", SECONDS, "deferred task")


def _ended(airflow: PlainAirflow, run: Run) -> str:
    def look() -> str | None:
        now = airflow.api.run(run.dag_id, run.run_id)
        return now.state if now and now.ended else None

    return str(airflow.until(look, SECONDS, "end of the run"))


def _log(airflow: PlainAirflow, run: Run) -> str:
    return str(airflow.api.request("GET", _path(run) + "/logs/1?full_content=true"))


def _pods(site: Site) -> list[dict[str, Any]]:
    return [pod for pod in site.pods() if pod["metadata"]["labels"].get("dag_id") == DAG_ID]


def _running(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = wait_for(lambda: [pod for pod in _pods(site) if pod["status"]["phase"] == "Running"])[0]
    return found


def test_a_deferred_step_tells_its_log_while_it_runs_and_succeeds(airflow: PlainAirflow, site: Site) -> None:
    run = airflow.api.trigger(DAG_ID, {"seconds": 20})
    _deferred(airflow, run)
    airflow.until(lambda: "progress fit 2/40" in _log(airflow, run), SECONDS, "log")
    assert _task(airflow, run)["state"] == "deferred", "told while it runs, with no worker"
    assert _ended(airflow, run) == "success"
    told = re.findall(r"progress fit (\d+)/40", _log(airflow, run))
    assert len(told) == len(set(told)) > 10, "each line once"
    wait_for(lambda: not _pods(site))


def test_the_killed_triggerer_finds_the_pod_again(airflow: PlainAirflow, site: Site) -> None:
    run = airflow.api.trigger(DAG_ID, {"seconds": 30})
    _deferred(airflow, run)
    uid = _running(site)["metadata"]["uid"]
    airflow.kill("triggerer")
    assert _running(site)["metadata"]["uid"] == uid
    airflow.start("triggerer")
    assert _ended(airflow, run) == "success"
    task = _task(airflow, run)
    assert task["try_number"] == 1 and f"uid {uid}" in _log(airflow, run)


def test_a_worker_killed_right_after_it_started_the_pod_is_followed_by_one_that_finds_it(
    airflow: PlainAirflow, site: Site
) -> None:
    flag = Path(airflow.environment["LINGER"])
    flag.touch()
    run = airflow.api.trigger(DAG_ID, {"seconds": 120})
    uid = _running(site)["metadata"]["uid"]
    assert _task(airflow, run)["state"] == "running"
    flag.unlink()
    identity = _task(airflow, run)["id"]
    killed = [process for process in airflow.processes("scheduler") if identity in " ".join(process.cmdline())]
    assert killed, "the worker of the task"
    for process in killed:
        process.send_signal(signal.SIGKILL)
    assert _ended(airflow, run) == "success"
    assert _task(airflow, run)["try_number"] == 2
    told = str(airflow.api.request("GET", _path(run) + "/logs/2?full_content=true"))
    assert f"uid {uid}" in told and "started pod" not in told, "no second pod"


def test_a_task_that_a_person_fails_takes_its_pod_along(airflow: PlainAirflow, site: Site) -> None:
    run = airflow.api.trigger(DAG_ID, {"seconds": 900})
    _deferred(airflow, run)
    name = _running(site)["metadata"]["name"]
    airflow.api.request("PATCH", _path(run), {"new_state": "failed"})
    wait_for(lambda: name not in [pod["metadata"]["name"] for pod in _pods(site)])
    assert _ended(airflow, run) == "failed"
