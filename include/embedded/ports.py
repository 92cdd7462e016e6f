"""Ports of the laptop stack: the usual ones, replaced where they are taken, and remembered across restarts.

Between choosing a port and listening on it lie seconds of imports. Another stack that starts in that time must not
choose the same one: a supervisor holds a lock per port, which the system releases when it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from include.embedded.layout import read_json, write_json

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Who listens where. The two log servers are Airflow's own, for the logs of tasks that still run."""

    airflow: int = 8080
    mlflow: int = 5000
    gateway: int = 8900
    worker_logs: int = 8793
    trigger_logs: int = 8794

    def replaced(self) -> dict[str, tuple[int, int]]:
        """Names of the ports that differ from the usual ones -> (usual, chosen)."""
        usual = asdict(Ports())
        return {name: (usual[name], port) for name, port in asdict(self).items() if port != usual[name]}


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    if not 0 < port < 65536:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((LOOPBACK, port)) == 0:  # some systems let us bind beside a listener on all interfaces
            return False
    return _can_bind(LOOPBACK, port) and _can_bind("", port)


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Reservations:
    """Locks on ports among the stacks of one user on this machine, held until `release` or the end of the process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"windtunnel-ports-{os.getuid()}"
        self._held: dict[int, int] = {}

    def take(self, port: int) -> bool:
        """Whether the port is this stack's now."""
        if port in self._held:
            return True
        self._folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(self._folder / str(port), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._held[port] = handle
        return True

    def release(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])


def free_port(avoid: frozenset[int] = frozenset()) -> int:
    """A port that the system says is free, and that is not among `avoid`."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in avoid and is_free(port):
            return port


def choose_ports(memory: Path, reservations: Reservations) -> Ports:
    """Ports for a stack that is about to start: last time's, else the usual, else free ones; kept in `memory`."""
    remembered = _remembered(memory)
    chosen: dict[str, int] = {}
    for name, usual in asdict(Ports()).items():
        wanted = [port for port in (remembered.get(name), usual) if port and port not in chosen.values()]
        found = next((port for port in wanted if is_free(port) and reservations.take(port)), None)
        while found is None:
            port = free_port(frozenset(chosen.values()))
            found = port if reservations.take(port) else None
        chosen[name] = found
    write_json(memory, chosen)
    return Ports(**chosen)


def _remembered(memory: Path) -> Mapping[str, int]:
    values = read_json(memory)
    if not isinstance(values, dict):
        return {}
    return {name: port for name, port in values.items() if isinstance(port, int) and not isinstance(port, bool)}
