"""One installation for all end-to-end tests: real Airflow, MLflow, gateway, training. They run in the order written."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from include.cli.context import airflow_api, live_settings
from include.embedded.airflow_api import AirflowApi, Run
from include.pods.contract import PodPhase
from include.pods.local import LocalPodRunner
from include.pods.supervisor import READY_FILE, SPEC_FILE
from include.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FAMILY = "compliance_qa"


class Installation:
    """A Windtunnel in a folder of its own, driven through its command line and Airflow's REST API."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {**os.environ, "WINDTUNNEL_HOME": str(home), "WINDTUNNEL_PROFILE": "demo"}

    def command(self, *arguments: str, seconds: float = 1500) -> subprocess.CompletedProcess[str]:
        """Runs `windtunnel ARGUMENTS`; its output is shown where a test fails."""
        done = subprocess.run(
            [sys.executable, "-m", "include.cli.main", *arguments],
            env=self.env,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
        print(done.stdout[-6000:])
        return done

    def json(self, *arguments: str) -> Any:
        """The JSON that `windtunnel ARGUMENTS --json` prints."""
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout)

    @property
    def settings(self) -> Settings:
        """Settings of the running stack."""
        return live_settings()

    def api(self) -> AirflowApi:
        """A client of the running Airflow."""
        return airflow_api(live_settings())

    def traffic(self, version: str) -> subprocess.Popen[bytes]:
        """Users: labelled questions until it is ended."""
        settings = live_settings()
        command = [sys.executable, "-m", "include.serving.traffic", "--gateway", settings.gateway_url]
        command += ["--family", FAMILY, "--dataset", version, "--rate", "30"]
        return subprocess.Popen(command, env={**self.env, **settings.to_env()}, cwd=ROOT, stdout=subprocess.PIPE)


def until(found: Callable[[], Any], seconds: float, what: str, pause: float = 0.3) -> Any:
    """The first true value of `found`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:.0f} s"
        time.sleep(pause)
    return value


def ended(api: AirflowApi, run: Run, seconds: float) -> Run:
    """The run when it has ended."""

    def look() -> Run | None:
        now = api.run(run.dag_id, run.run_id)
        return now if now and now.ended else None

    result: Run = until(look, seconds, f"end of {run.dag_id}")
    return result


def started_by(api: AirflowApi, cause: Run, dag_id: str, seconds: float = 60) -> Run:
    """The run of `dag_id` that an asset event of `cause` started."""

    def look() -> Run | None:
        names = [run_id for dag, run_id in api.runs_by_event(cause.dag_id, cause.run_id) if dag == dag_id]
        return api.run(dag_id, names[0]) if names else None

    result: Run = until(look, seconds, f"run of {dag_id}", pause=0.1)
    return result


def task_state(api: AirflowApi, run: Run, task_id: str) -> tuple[str | None, str]:
    """State and id of an unmapped task instance."""
    answer = api.request("GET", f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id)}/taskInstances/{task_id}")
    return answer["state"], answer["id"]


def kill_task(api: AirflowApi, run: Run, task_id: str, seconds: float = 600) -> None:
    """`kill -9` on the Airflow process that runs the task, as soon as it runs."""

    def look() -> psutil.Process | None:
        state, identity = task_state(api, run, task_id)
        assert state not in {"failed", "upstream_failed", "success"}, f"{task_id} is {state}: too late to kill it"
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or [])
            if title.strip() == f"airflow worker -- {identity}":
                return process
        return None

    process: psutil.Process = until(look, seconds, f"process of {task_id}", pause=0.02)
    process.send_signal(signal.SIGKILL)


def kill_pods_of(home: Path, step: str) -> int:
    """`kill -9` on the processes of all running pods of a step; returns how many died."""
    runner, killed = LocalPodRunner(home / "pods"), 0
    for name in runner.names():
        folder = home / "pods" / name
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):  # it is starting, or ended
            command = json.loads((folder / SPEC_FILE).read_text())["command"]
            if step not in command or runner.status(name).phase is not PodPhase.RUNNING:
                continue
            supervisor = psutil.Process(int((folder / READY_FILE).read_text()))
            for process in supervisor.children(recursive=True):
                process.send_signal(signal.SIGKILL)
                killed += 1
    return killed


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("windtunnel"))
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("WINDTUNNEL_")]:
        del os.environ[name]
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["WINDTUNNEL_HOME"] = str(made.home)
    yield made
    made.command("down", seconds=120)
    os.environ.clear()
    os.environ.update(before)
