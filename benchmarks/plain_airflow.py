"""An Airflow of one's own, with any folder of DAG files: each component a process that can be measured, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from include.embedded.airflow_api import AirflowApi
from include.embedded.airflow_env import airflow_environment, airflow_url, write_passwords
from include.embedded.credentials import ADMIN, keep_secrets
from include.embedded.layout import Layout
from include.embedded.ports import Ports, is_free
from include.settings import PROJECT_ROOT

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_START_SECONDS, _STOP_SECONDS = 300.0, 30.0


class PlainAirflow:
    """Runs for the `with` block, on SQLite and free ports.

    Args:
        home: Its folder.
        dags: Its DAG files.
        environment: Variables of its processes, over those of this one.
    """

    def __init__(self, home: Path, dags: Path, environment: Mapping[str, str]) -> None:
        layout = Layout(home)
        layout.make()
        secrets, ports = keep_secrets(layout.secrets), Ports(*_free_ports(5))
        write_passwords(layout, secrets)
        bundle = {
            "name": "dags-folder",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(dags)},
        }
        nothing = home / "plugins"
        nothing.mkdir(exist_ok=True)
        self.home = home
        self.environment = {
            **os.environ,
            **airflow_environment(layout, ports, secrets),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(nothing),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "240",  # others may be at work on the machine
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "180",
            "PYTHONPATH": str(PROJECT_ROOT),
            **environment,
        }
        self.api = AirflowApi(airflow_url(ports), ADMIN, secrets.admin_password)
        self._url = airflow_url(ports)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> PlainAirflow:
        migrated = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if migrated.returncode:
            raise RuntimeError(migrated.stderr[-2000:])
        try:
            for name in COMPONENTS:
                self.start(name)
            self.until(self._healthy, _START_SECONDS, "Airflow")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(COMPONENTS):
            if name in self._processes:
                self.kill(name, signal.SIGTERM)

    def start(self, name: str) -> None:
        """Starts a component."""
        with (self.home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", name],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """Ends a component and all that it started."""
        processes = self.processes(name)
        for process in processes:
            if how == signal.SIGKILL or process.pid == self._processes[name].pid:
                process.send_signal(how)
        _, left = psutil.wait_procs(processes, _STOP_SECONDS)
        for process in left:
            process.kill()
        self._processes.pop(name).wait()

    def processes(self, name: str) -> list[psutil.Process]:
        """The processes of a component, its own first."""
        try:
            own = psutil.Process(self._processes[name].pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def until(self, found: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true value of `found`.

        Raises:
            TimeoutError: There was none in that time; it says how the logs end.
        """
        deadline = time.monotonic() + seconds
        while not (value := found()):
            if time.monotonic() > deadline:
                tails = {name: (self.home / f"{name}.log").read_text()[-1500:] for name in COMPONENTS}
                raise TimeoutError(f"no {what} within {seconds:g} s: {json.dumps(tails, indent=1)}")
            time.sleep(0.5)
        return value

    def _healthy(self) -> bool:
        try:
            told = httpx.get(f"{self._url}/api/v2/monitor/health", timeout=10).json()
        except (httpx.HTTPError, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((told.get(part) or {}).get("status") == "healthy" for part in parts)


def _free_ports(count: int) -> list[int]:
    return [port for port in range(18100, 20000, 7) if is_free(port)][:count]
