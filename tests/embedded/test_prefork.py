"""The host of forks: imports once, holds programs at the gate, ends them all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from include.embedded.layout import read_json
from include.embedded.prefork import Plan, Program
from tests.embedded.conftest import is_running, wait_for

CODE = """
import os, sys, time, pathlib
here = pathlib.Path(__file__).parent
with (here / "imports").open("a") as file: file.write(f"{os.getpid()}\\n")
def stay():
    print("argv", sys.argv, flush=True)
    (here / f"{sys.argv[0]}.started").write_text(str((here / "first.done").exists()))
    time.sleep(600)
def first():
    time.sleep(0.5)
    (here / "first.done").touch()
def bad():
    raise ValueError("what was wrong")
def leave():
    raise SystemExit("cannot go on")
"""


@pytest.fixture
def start(tmp_path: Path):
    (tmp_path / "programs.py").write_text(CODE)
    started: list[subprocess.Popen[bytes]] = []

    def program(entry: str, name: str, **options: object) -> Program:
        return Program(name=name, entry=f"programs:{entry}", argv=(name, "x"), log=tmp_path / f"{name}.log", **options)

    def run(*entries: str, first: str | None = None, early: bool = False) -> subprocess.Popen[bytes]:
        programs = [
            program(entry, f"{entry}{i}", preload=("programs",) if early else ()) for i, entry in enumerate(entries)
        ]
        plan = Plan(
            preload=("programs", "no_such_module"),
            first=program(first, "first") if first else None,
            programs=tuple(programs),
            state=tmp_path / "state.json",
            grace_seconds=2,
        )
        path = tmp_path / "plan.json"
        path.write_text(plan.model_dump_json())
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(tmp_path)])}
        with (tmp_path / "host.log").open("wb") as log:
            command = [sys.executable, "-m", "include.embedded.prefork", str(path)]
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def pids(folder: Path) -> dict[str, int]:
    record = read_json(folder / "state.json") or {"programs": {}}
    return {name: program["pid"] for name, program in record["programs"].items() if program["pid"]}


@pytest.mark.parametrize("early", [False, True])
def test_programs_start_after_the_first_is_done_and_import_nothing_twice(start, tmp_path: Path, early: bool) -> None:
    host = start("stay", "stay", first="first", early=early)
    wait_for(lambda: len(list(tmp_path.glob("stay*.started"))) == 2)
    assert {path.read_text() for path in tmp_path.glob("stay*.started")} == {"True"}
    assert (tmp_path / "imports").read_text().split() == [str(host.pid)]
    assert "argv ['stay0', 'x']" in (tmp_path / "stay0.log").read_text()
    assert "no_such_module was not imported ahead" in (tmp_path / "host.log").read_text()
    running = pids(tmp_path)
    host.send_signal(signal.SIGTERM)
    assert host.wait(10) == 0
    assert not any(is_running(pid) for pid in running.values())


def test_a_first_program_that_fails_ends_the_host_before_anything_starts(start, tmp_path: Path) -> None:
    host = start("stay", first="bad")
    assert host.wait(10) == 1
    assert "ValueError: what was wrong" in (tmp_path / "first.log").read_text()
    assert not list(tmp_path.glob("stay*.started"))


@pytest.mark.parametrize(("entry", "told"), [("bad", "ValueError: what was wrong"), ("leave", "cannot go on")])
def test_a_program_that_does_not_stay_up_ends_the_host_and_the_others(
    start, tmp_path: Path, entry: str, told: str
) -> None:
    host = start("stay", entry)
    assert host.wait(15) == 1
    assert told in (tmp_path / f"{entry}1.log").read_text()
    assert json.loads((tmp_path / "state.json").read_text())["programs"][f"{entry}1"]["exit_code"] == 1
    assert not any(is_running(pid) for pid in pids(tmp_path).values())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal")
def test_programs_do_not_outlive_a_host_that_was_killed(start, tmp_path: Path) -> None:
    host = start("stay", "stay")
    wait_for(lambda: len(list(tmp_path.glob("stay*.started"))) == 2)
    running = pids(tmp_path)
    host.kill()
    wait_for(lambda: not any(is_running(pid) for pid in running.values()))
