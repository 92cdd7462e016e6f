"""The parent of the laptop stack: `python -m include.embedded.supervisor`.

It outlives the command that started it. It holds a lock for as long as the stack runs, starts the services, starts one
that died again, and on SIGTERM ends every process below it, the pods of running steps included. The lock, not a process
id, says whether the stack runs.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO

import psutil

from include.embedded.credentials import Secrets, keep_secrets
from include.embedded.herd import Herd
from include.embedded.layout import Layout, write_json
from include.embedded.ports import Ports, Reservations, choose_ports
from include.embedded.processes import ProcessId, end_all, leftovers
from include.embedded.services import Service, build_services
from include.errors import WindtunnelError
from include.pods.forking import adopt_orphans, die_with_parent
from include.settings import PROJECT_ROOT, Settings

GRACE_SECONDS = 12.0
_LOG_BYTES = 20_000_000  # a larger log is moved aside at the start


Build = Callable[[Settings, Ports, Secrets], list[Service]]


def main(build: Build = build_services) -> int:
    """Runs the services that `build` lists until SIGTERM. 0 when stopped, 3 when another supervisor has the stack."""
    settings = Settings.from_env()
    layout = Layout(settings.home)
    layout.make()
    with (layout.run / "stack.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 3
        return _supervise(settings, layout, build)


def _supervise(settings: Settings, layout: Layout, build: Build) -> int:
    adopt_orphans()
    end_all(leftovers(layout.home, keep=_is_pod), 5.0)
    reservations = Reservations()
    ports = choose_ports(layout.ports, reservations)
    services = build(settings, ports, keep_secrets(layout.secrets))
    started = datetime.now(UTC)
    herd = Herd(on_change=partial(_write_state, layout, settings, ports, services, started))
    herd.handle_signals()
    for service in services:
        herd.add(service.name, partial(_spawn, service))
    herd.run()
    print("stopping", flush=True)
    killed = herd.stop(GRACE_SECONDS)
    reservations.release()
    print(f"stopped; {killed} processes had to be killed", flush=True)
    return 0


def _is_pod(process: psutil.Process) -> bool:
    """Pods may outlive a supervisor that was killed: their steps go on, and Airflow's retry finds them."""
    try:
        lines = [process.cmdline(), *(parent.cmdline() for parent in process.parents())]
    except psutil.Error:
        return False
    return any("include.pods.supervisor" in line for line in lines)


def _spawn(service: Service) -> int:
    with _open_log(service.log) as log:
        process = subprocess.Popen(
            service.command,
            env=dict(service.environment),
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_in_child,  # noqa: PLW1509 - there are no threads here, and the death signal needs it
        )
    process.returncode = 0  # the herd reaps it: keep Popen from waiting for a process id that may be another's by then
    return process.pid


def _in_child() -> None:
    os.setpgid(0, 0)
    die_with_parent()


def _open_log(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    log = path.open("ab", buffering=0)
    log.write(f"--- started {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
    return log


def _write_state(
    layout: Layout, settings: Settings, ports: Ports, services: list[Service], started: datetime, herd: Herd
) -> None:
    own = ProcessId.of(os.getpid())
    record = {
        "supervisor": {"pid": own.pid, "started": own.started},
        "started_at": started.isoformat(),
        "profile": settings.profile,
        "ports": vars(ports),
        "services": {
            service.name: {
                "title": service.title,
                "state": child.state.value,
                "pid": child.pid,
                "started": child.process.started if child.process else None,
                "starts": child.starts,
                "exit_code": child.exit_code,
                "url": service.url,
                "health": service.health,
                "log": str(service.log),
            }
            for service in services
            if (child := herd.children.get(service.name))
        },
    }
    write_json(layout.state, record)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except WindtunnelError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
