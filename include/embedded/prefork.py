"""Runs several programs of one heavy library as forks of a process that imported it once.

`python -m include.embedded.prefork PLAN.json`. Importing Airflow costs seconds of CPU; its four components would each
pay them, all at the same moment on a laptop's few cores. Here the host imports once, then forks: a component is up a
second later, and the memory of the imported code is shared. The host stays as their parent: it reaps them, starts one
that died again, and ends them all on SIGTERM. If the host is killed, the kernel ends them.

The plan names modules and entry points as text; this module knows nothing of the library. Threads must not run in the
host when it forks, so what is imported here may not start any.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict

from include.embedded.herd import ChildState, Herd
from include.embedded.layout import write_json
from include.embedded.processes import ProcessId
from include.pods.forking import (
    adopt_orphans,
    die_with_parent,
    exit_status,
    flush_output,
    import_ahead,
    lead_group,
    no_collection,
    redirect,
)


class Program(BaseModel):
    """One fork.

    Attributes:
        entry: `module:function`, called without arguments.
        argv: `sys.argv` of the program.
        preload: Imported before `gate`, so that it overlaps with the plan's first program.
        log: File that takes its output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    entry: str
    argv: tuple[str, ...]
    log: Path
    preload: tuple[str, ...] = ()


class Gate:
    """Holds forks until the host opens it; a fork made later walks through."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._opened = False

    def open(self) -> None:
        if not self._opened:
            self._opened = True
            os.close(self._write)

    def wait(self) -> None:
        """In a fork: returns when the host has opened the gate, or is gone."""
        if not self._opened:
            os.close(self._write)
            os.read(self._read, 1)


class Plan(BaseModel):
    """What the host runs.

    Attributes:
        preload: Imported by the host; one that cannot be imported is named in the log and left out.
        first: Runs to its end before any program starts, such as a database migration.
        programs: Run until the host is told to stop.
        state: File that names the running programs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preload: tuple[str, ...] = ()
    first: Program | None = None
    programs: tuple[Program, ...]
    state: Path
    grace_seconds: float = 8.0
    nudge_seconds: float = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the plan; 0 when told to stop, 1 when a program would not run."""
    path = Path((sys.argv[1:] if argv is None else list(argv))[0])
    plan = Plan.model_validate(json.loads(path.read_text(encoding="utf-8")))
    started = time.monotonic()
    adopt_orphans()
    herd = Herd(on_change=lambda changed: _write_state(plan.state, changed))
    herd.handle_signals()
    with no_collection():
        _preload(plan.preload)
    _say(f"imported in {time.monotonic() - started:.1f} s")
    gate = Gate()
    early = [program for program in plan.programs if program.preload]
    for program in early:
        herd.add(program.name, partial(_fork, program, gate))
    try:
        if plan.first and not herd.stopping and not _run_first(plan.first, gate):
            return 1
        _say(f"prepared after {time.monotonic() - started:.1f} s")
        gate.open()
        for program in plan.programs:
            if program not in early and not herd.stopping:
                herd.add(program.name, partial(_fork, program, gate))
        herd.run(until=_any_failed)
        failed = [child for child in herd.children.values() if child.state is ChildState.FAILED]
        for child in failed:
            _say(f"{child.name} ended with {child.exit_code} and does not stay up")
        return 1 if failed else 0
    finally:
        herd.stop(plan.grace_seconds, nudge_after=plan.nudge_seconds)


def _any_failed(herd: Herd) -> bool:
    return any(child.state is ChildState.FAILED for child in herd.children.values())


def _say(text: str) -> None:
    print(f"host: {text}", flush=True)


def _preload(modules: Sequence[str]) -> None:
    import_ahead(modules, _say)
    if threading.active_count() > 1:
        _say(f"threads run before the fork: {[thread.name for thread in threading.enumerate()]}")


def _run_first(program: Program, gate: Gate) -> bool:
    pid = _fork(program, gate, wait=False)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        _say(f"{program.name} ended with {code}")
    return code == 0


def _fork(program: Program, gate: Gate, wait: bool = True) -> int:
    """Starts `program` in a fork, which waits at the gate after its own imports; returns its process id."""
    flush_output()
    pid = os.fork()
    if pid:
        lead_group(pid)
        return pid
    _in_child(program, gate if wait else None)


def _in_child(program: Program, gate: Gate | None) -> NoReturn:
    def run() -> None:
        lead_group()
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        redirect(program.log)
        with no_collection():
            for name in program.preload:
                importlib.import_module(name)
        if gate is not None:
            gate.wait()
        sys.argv = list(program.argv)
        module, _, function = program.entry.partition(":")
        getattr(importlib.import_module(module), function)()

    code = exit_status(run)
    flush_output()
    os._exit(code)


def _write_state(path: Path, herd: Herd) -> None:
    own = ProcessId.of(os.getpid())
    record: dict[str, Any] = {
        "host": {"pid": own.pid, "started": own.started},
        "programs": {
            child.name: {
                "pid": child.pid,
                "started": child.process.started if child.process else None,
                "state": child.state.value,
                "starts": child.starts,
                "exit_code": child.exit_code,
            }
            for child in herd.children.values()
        },
    }
    write_json(path, record)


if __name__ == "__main__":
    raise SystemExit(main())
