"""Local pods: supervised processes with the contract of a Kubernetes pod.

A pod is a folder: its spec, its log, its exit status, and a lock that its supervisor holds while it runs. The lock, not
a process id, says whether it runs, so that a recycled id cannot be mistaken for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include.pods.contract import ENDED_PHASES, PodError, PodPhase, PodSpec, PodStatus, PodUsage
from include.pods.supervisor import EXIT_FILE, LOCK_FILE, LOG_FILE, READY_FILE, SPEC_FILE
from include.pods.warm import WarmStarts, is_locked
from include.settings import PROJECT_ROOT

_START_SECONDS = 20.0
_GRACE_SECONDS = 20.0


def pod_name(*parts: object) -> str:
    """A file-system and Kubernetes safe name for the work that `parts` identify: readable start, hashed end."""
    text = "-".join(str(part) for part in parts)
    readable = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class LocalPodRunner:
    """Pods as process groups of this machine, under `folder`.

    Args:
        warm: Starts them where it can; None: each is started from nothing.
    """

    def __init__(self, folder: Path, warm: WarmStarts | None = None) -> None:
        self._folder, self._warm = folder, warm

    def start(self, spec: PodSpec) -> bool:
        folder = self._pod(spec.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._starting(folder):
                if self.status(spec.name).phase is PodPhase.RUNNING:
                    return False
                self._clear(folder)
                record: dict[str, Any] = {
                    "command": list(spec.command),
                    "env": dict(spec.env),
                    "cwd": str(PROJECT_ROOT),
                    "grace_seconds": _GRACE_SECONDS,
                    "attempt": uuid.uuid4().hex,
                    "limits": asdict(spec.limits),
                }
                (folder / SPEC_FILE).write_text(json.dumps(record, indent=1))
                environment = {**os.environ, **spec.secrets}
                if self._warm is None or not self._warm.start(
                    folder, record["attempt"], spec.command, {**environment, **spec.env}
                ):
                    self._launch(folder, environment)
        except OSError as error:
            hint = "check that the folder is writable and the disk is not full"
            raise PodError(f"cannot start pod {spec.name}: {error}", where=str(folder), hint=hint) from error
        return True

    def status(self, name: str) -> PodStatus:
        folder = self._pod(name)
        if not (folder / LOCK_FILE).exists():
            return PodStatus(PodPhase.ABSENT)
        running, attempt = is_locked(folder / LOCK_FILE), _attempt(folder)
        if running:
            return PodStatus(PodPhase.RUNNING, attempt=attempt)
        try:
            record = json.loads((folder / EXIT_FILE).read_text())
        except FileNotFoundError:
            return PodStatus(PodPhase.LOST, attempt=attempt, usage=_seen(folder))
        code = int(record["code"])
        return PodStatus(
            PodPhase.SUCCEEDED if code == 0 else PodPhase.FAILED,
            code,
            attempt,
            PodUsage(record.get("seconds", 0.0), record.get("cpu_seconds"), record.get("peak_bytes")),
            record.get("stopped", False),
            record.get("oom_kills", 0),
        )

    def logs(self, name: str, offset: int) -> bytes:
        try:
            with (self._pod(name) / LOG_FILE).open("rb") as log:
                log.seek(offset)
                return log.read(1 << 20)
        except FileNotFoundError:
            return b""

    def tail(self, name: str, limit: int = 1 << 16) -> list[str]:
        """The last lines of the current attempt's log, `limit` bytes of them at most."""
        try:
            with (self._pod(name) / LOG_FILE).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - limit))
                return log.read(limit).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []

    def stop(self, name: str, grace_seconds: float = _GRACE_SECONDS) -> None:
        folder = self._pod(name)
        if self.status(name).phase is not PodPhase.RUNNING:
            return
        told, deadline = False, time.monotonic() + grace_seconds + 5
        while self.status(name).phase is PodPhase.RUNNING:
            if not told:  # a supervisor that is only just starting has not said yet who it is
                with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
                    os.kill(int((folder / READY_FILE).read_text()), signal.SIGTERM)
                    told = True
            if time.monotonic() > deadline:
                raise PodError(f"pod {name} did not stop within {grace_seconds:g} s", where=str(folder))
            time.sleep(0.05)

    def names(self) -> list[str]:
        """Names of all pods that were ever started here, oldest first."""
        if not self._folder.is_dir():
            return []
        return [path.name for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)]

    def prune(self, older_than_seconds: float, now: float) -> int:
        """Removes the folders of pods that ended longer ago than that; returns how many."""
        removed = 0
        for name in self.names():
            folder = self._pod(name)
            if self.status(name).phase in ENDED_PHASES and now - folder.stat().st_mtime > older_than_seconds:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        return removed

    def _pod(self, name: str) -> Path:
        return self._folder / name

    @contextlib.contextmanager
    def _starting(self, folder: Path) -> Iterator[None]:
        with (folder / "starting").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _clear(self, folder: Path) -> None:
        for name in (EXIT_FILE, READY_FILE):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder / LOG_FILE, folder / "log.previous")

    def _launch(self, folder: Path, environment: dict[str, str]) -> None:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "include.pods.supervisor", str(folder)],
            cwd=PROJECT_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not (folder / READY_FILE).exists() and not (folder / EXIT_FILE).exists():
            if supervisor.poll() not in (None, 0) and not (folder / EXIT_FILE).exists():  # 0: another one has the pod
                raise PodError(f"the pod's supervisor ended with {supervisor.returncode}", where=str(folder))
            if time.monotonic() > deadline:
                raise PodError(f"the pod did not start within {_START_SECONDS:g} s", where=str(folder))
            time.sleep(0.01)


def _attempt(folder: Path) -> str:
    """The name of the pod's current start; "" while that is being written down."""
    try:
        return str(json.loads((folder / SPEC_FILE).read_text()).get("attempt", ""))
    except (FileNotFoundError, ValueError):
        return ""


def _seen(folder: Path) -> PodUsage | None:
    """Of a lost pod: from its start to the last that it said."""
    try:
        return PodUsage(max(0.0, (folder / LOG_FILE).stat().st_mtime - (folder / SPEC_FILE).stat().st_mtime))
    except FileNotFoundError:
        return None
