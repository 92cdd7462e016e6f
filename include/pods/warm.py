"""Asks the warm server to start a pod, and starts the server where there is none.

A step's process spends seconds on importing torch, Lightning, MLflow and the like before it does anything. The server
(`include.pods.warm_server`) has them imported and forks a child per pod. Nothing depends on it: whenever it is not
there, not ready, busy, out of date or broken, the pod is started cold. The pod's lock and the name of its attempt keep
the two from starting it twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.settings import PROJECT_ROOT

SOCKET, LOCK, UNFIT, LOG = "socket", "lock", "unfit", "log"
STARTED = b"started"
#: Available memory (bytes) below which no server is started, and below which a running one ends.
START_BYTES, KEEP_BYTES = 3 << 30, 1 << 30

_ANSWER_SECONDS = 10.0
_UNFIT_SECONDS = 600.0
_LOG_BYTES = 1_000_000
#: Variables that no library reads when it is imported: a pod may have others than the server.
_FREE_PREFIXES = ("AIRFLOW_", "_AIRFLOW_", "__AIRFLOW_", "AWS_", "MLFLOW_TRACKING_", "WINDTUNNEL_")
_FREE_NAMES = frozenset({"COLUMNS", "LINES", "OLDPWD", "PWD", "PYTEST_CURRENT_TEST", "SHLVL", "TERM", "_"})
_BOUND_NAMES = frozenset({"WINDTUNNEL_STACK"})  # the mark by which a stack finds its processes

logger = logging.getLogger(__name__)


def bound(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that must be the same for a pod and the server that forks it."""
    return {
        name: value
        for name, value in environment.items()
        if name in _BOUND_NAMES or not (name in _FREE_NAMES or name.startswith(_FREE_PREFIXES))
    }


def can_fork() -> bool:
    """Whether this system's libraries survive a fork; macOS' do not."""
    return sys.platform == "linux"


def available_bytes() -> int:
    """Memory that programs can still have, on Linux."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


class WarmStarts:
    """The warm server of one installation.

    Args:
        folder: The server's own: its socket, its lock and its log.
        minutes: How long a server without work stays.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self._folder, self._minutes = folder, minutes

    def start(self, pod: Path, attempt: str, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Has the server start a pod whose folder is prepared; False: it was not started, or nobody knows.

        The environment goes through a socket that only this user can open, and is not written down.
        """
        if not can_fork() or list(command[:2]) != [sys.executable, "-m"]:
            return False
        request = {
            "pod": str(pod),
            "attempt": attempt,
            "environment": dict(environment),
            "umask": _umask(),
            "cgroup": _cgroup(),
        }
        try:
            answer = self._ask(request)
        except (FileNotFoundError, ConnectionRefusedError):
            answer = self._make_server()
        except OSError as error:
            answer = f"the warm server does not answer: {error}"
        if answer == STARTED.decode():
            return True
        logger.info("cold start: %s", answer)
        return False

    def _ask(self, request: dict[str, Any]) -> str:
        with connection(self._folder) as (place, client):
            client.settimeout(_ANSWER_SECONDS)
            client.connect(place)
            client.sendall(json.dumps(request).encode())
            client.shutdown(socket.SHUT_WR)
            return client.recv(1 << 12).decode() or "the warm server broke off"

    def _make_server(self) -> str:
        """Starts the server, which is of use from the next pod on; what the log should say."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_locked(self._folder / LOCK):
                return "the warm server is only starting"
            unfit = self._folder / UNFIT
            if unfit.exists() and time.time() - unfit.stat().st_mtime < _UNFIT_SECONDS:
                return f"there is no warm server: {unfit.read_text().strip()}"
            if available_bytes() < START_BYTES:
                return f"no warm server is started with less than {START_BYTES >> 30} GiB of memory available"
            log_path = self._folder / LOG
            with contextlib.suppress(FileNotFoundError):
                if log_path.stat().st_size > _LOG_BYTES:
                    log_path.unlink()
            with log_path.open("ab") as log:
                subprocess.Popen(
                    [sys.executable, "-m", "include.pods.warm_server", str(self._folder), f"{self._minutes:g}"],
                    cwd=PROJECT_ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                ).returncode = 0  # nobody waits for it: it outlives this process
        except OSError as error:
            return f"the warm server cannot be started: {error}"
        return "the warm server is only starting"


@contextlib.contextmanager
def connection(folder: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket, and the server's address for it. Raises `FileNotFoundError` where the folder is not there.

    The address goes through the open folder, because that of a socket may not be longer than some hundred characters.
    """
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            yield f"/proc/self/fd/{handle}/{SOCKET}", made
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on this file, which is made if it is not there."""
    try:
        with path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True


def _umask() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def _cgroup() -> str:
    return Path("/proc/self/cgroup").read_text()
