"""The laptop stack as its users see it: start, wait until it works, look, stop.

Safe to call at any moment and from several processes: one lock serialises starts and stops, the supervisor's lock says
whether the stack runs, and a stop also finds what a killed supervisor left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from include.embedded.credentials import keep_secrets
from include.embedded.database import remember_migration
from include.embedded.health import check
from include.embedded.layout import Layout, read_json
from include.embedded.ports import Ports
from include.embedded.processes import MARK, ProcessId, end_all, leftovers, listens
from include.errors import WindtunnelError
from include.settings import PROJECT_ROOT, Settings

SUPERVISOR = (sys.executable, "-m", "include.embedded.supervisor")
START_SECONDS = 180.0
STOP_SECONDS = 40.0
_TAIL_LINES = 15
_POLL_SECONDS = 0.1


class StackError(WindtunnelError):
    """The stack did not start, stopped working, or did not stop."""


class Health(str, Enum):
    """What a service is, seen from outside."""

    STARTING = "starting"
    HEALTHY = "healthy"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ServiceView:
    """One service of the running stack."""

    name: str
    title: str
    url: str
    health_url: str
    log: Path
    process: ProcessId | None
    failed: bool
    starts: int


@dataclass(frozen=True)
class StackView:
    """The running stack, as its supervisor wrote it down."""

    supervisor: ProcessId
    started_at: str
    profile: str
    ports: Ports
    services: Mapping[str, ServiceView]


Progress = Callable[[str, Health, float], None]


class Stack:
    """The stack of one home folder.

    Args:
        settings: Their `home` is the stack's; the rest is handed to what it starts.
        supervisor: Command line of the supervisor.
    """

    def __init__(self, settings: Settings, supervisor: Sequence[str] = SUPERVISOR) -> None:
        self.settings = settings
        self._supervisor = tuple(supervisor)
        self.layout = Layout(settings.home)

    def running(self) -> bool:
        """Whether a supervisor has the stack."""
        return _is_locked(self.layout.run / "stack.lock")

    def view(self) -> StackView | None:
        """The running stack; None while there is none (or it is only just starting)."""
        if not self.running():
            return None
        record = read_json(self.layout.state)
        return _view(record) if isinstance(record, dict) else None

    def start(self) -> bool:
        """Starts the supervisor unless the stack runs; returns whether it was started. Does not wait for health."""
        self.layout.make()
        with self._one_at_a_time("start"):
            if self.running():
                return False
            keep_secrets(self.layout.secrets)  # a damaged file is told here and not in a log
            self.layout.state.unlink(missing_ok=True)
            log_path = self.layout.log("supervisor")
            with log_path.open("ab") as log:
                process = subprocess.Popen(
                    self._supervisor,
                    env={
                        **os.environ,
                        **self.settings.to_env(),
                        "PYTHONPATH": str(PROJECT_ROOT),
                        MARK: str(self.layout.home),
                    },
                    cwd=PROJECT_ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            deadline = time.monotonic() + START_SECONDS
            while self.view() is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise self._failure("the supervisor", log_path, f"ended with {process.poll()}")
                time.sleep(0.03)
        return True

    def wait(
        self, names: Collection[str] | None = None, progress: Progress | None = None, timeout: float = START_SECONDS
    ) -> StackView:
        """Waits until the named services (all: None) work.

        Raises:
            StackError: One of them does not come up; `fields["tail"]` holds the end of its log.
        """
        started = time.monotonic()
        healthy: set[str] = set()
        while True:
            view = self.view()
            if view is None:
                raise self._failure("the stack", self.layout.log("supervisor"), "is not running")
            wanted = [service for name, service in view.services.items() if names is None or name in names]
            for service in wanted:
                if service.name in healthy:
                    continue
                seconds = time.monotonic() - started
                health = check_service(service)
                if progress:
                    progress(service.name, health, seconds)
                if health is Health.HEALTHY:
                    healthy.add(service.name)
                    if service.name == "airflow":
                        remember_migration(self.layout.airflow / "airflow.db", self.layout.airflow / "migrated.json")
                elif health is Health.FAILED:
                    raise self._failure(service.title, self._telling_log(service), "did not come up")
                elif seconds > timeout:
                    raise self._failure(service.title, self._telling_log(service), f"did not answer in {timeout:.0f} s")
            if len(healthy) == len(wanted) and (names is None or set(names) <= set(view.services)):
                return view
            time.sleep(_POLL_SECONDS)

    def stop(self) -> bool:
        """Stops the stack and whatever of it is left; returns whether there was anything to stop.

        Raises:
            StackError: Something would not end.
        """
        if not self.layout.run.is_dir():
            return False
        with self._one_at_a_time("stop"):
            was_running = self.running()
            if was_running:
                self._stop_supervisor()
            rest = leftovers(self.layout.home)
            end_all(rest, 5.0)
            deadline = time.monotonic() + 5
            while leftovers(self.layout.home):
                if time.monotonic() > deadline:
                    pids = " ".join(str(process.pid) for process in leftovers(self.layout.home))
                    raise StackError(f"processes would not end: {pids}", hint=f"end them by hand: kill -9 {pids}")
                time.sleep(0.1)
            self.layout.state.unlink(missing_ok=True)
            return was_running or bool(rest)

    def tail(self, path: Path, lines: int = _TAIL_LINES) -> str:
        """The last lines of a log."""
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 20_000))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return "(no log)"
        return "\n".join(line[:300] for line in text.strip().splitlines()[-lines:])

    def _stop_supervisor(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        told: set[int] = set()
        while self.running():
            view = self.view()
            if view and view.supervisor.pid not in told:
                view.supervisor.send(signal.SIGTERM)
                told.add(view.supervisor.pid)
            if time.monotonic() > deadline:
                if view:
                    view.supervisor.send(signal.SIGKILL)
                return
            time.sleep(0.05)

    @contextlib.contextmanager
    def _one_at_a_time(self, what: str) -> Iterator[None]:
        with (self.layout.run / "command.lock").open("a") as handle:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"cannot {what} the stack: another command is starting or stopping it",
                            hint="wait for the other `windtunnel up` or `windtunnel down`, then try again",
                        ) from None
                    time.sleep(0.1)
            yield

    def _telling_log(self, service: ServiceView) -> Path:
        """The log that says why a service does not work: for Airflow, that of the component that ended."""
        if service.name != "airflow":
            return service.log
        record = read_json(self.layout.run / "airflow.json")
        programs = record.get("programs", {}) if isinstance(record, dict) else {}
        for name, program in programs.items():
            if program.get("exit_code") not in (None, 0):
                return self.layout.log(f"airflow-{name}")
        migration = self.layout.log("airflow-migrate")
        return migration if "migrate ended with" in self.tail(service.log) else service.log

    def _failure(self, what: str, log: Path, how: str) -> StackError:
        tail = self.tail(log)
        busy = "address already in use" in tail.lower()
        hint = "another program took its port meanwhile: run the command again" if busy else f"read {log}"
        return StackError(f"{what} {how}", where=str(log), hint=hint, log=str(log), tail=tail)


def check_service(service: ServiceView) -> Health:
    """What a service is right now."""
    if service.failed:
        return Health.FAILED
    if service.process is None or not service.process.alive():
        return Health.STARTING
    if not listens(service.process.pid, urlsplit(service.url).port or 0):  # somebody else may answer at its address
        return Health.STARTING
    return Health.HEALTHY if check(service.name, service.health_url, service.process.started) else Health.STARTING


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def _process(record: Mapping[str, Any]) -> ProcessId | None:
    pid, started = record.get("pid"), record.get("started")
    return ProcessId(pid, started) if pid and started else None


def _view(record: Mapping[str, Any]) -> StackView | None:
    supervisor = _process(record["supervisor"])
    if supervisor is None or not supervisor.alive():
        return None  # a state that an earlier supervisor left; the new one has not written its own yet
    services = {
        name: ServiceView(
            name=name,
            title=item["title"],
            url=item["url"],
            health_url=item["health"],
            log=Path(item["log"]),
            process=_process(item),
            failed=item["state"] == "failed",
            starts=item["starts"],
        )
        for name, item in record["services"].items()
    }
    return StackView(supervisor, record["started_at"], record["profile"], Ports(**record["ports"]), services)
