"""A parent and its children: restarts, giving up, a stop that leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from include.embedded import herd as module
from include.embedded import processes
from include.embedded.herd import ChildState, Herd
from tests.embedded.conftest import is_running, wait_for

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAME_UP_SECONDS", 0.4)


def spawn(code: str, *arguments: str) -> int:
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], process_group=0)
    process.returncode = 0  # the herd reaps it
    return process.pid


@pytest.fixture(autouse=True)
def only_children_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A herd ends whatever runs below its process, and below this one run the servers of other tests."""
    others = {child.pid for child in psutil.Process().children()}

    def of_the_test() -> list[psutil.Process]:
        theirs = {other.pid for pid in others for other in below(pid)}
        return [child for child in processes.descendants() if child.pid not in others | theirs]

    def below(pid: int) -> list[psutil.Process]:
        try:
            return psutil.Process(pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    monkeypatch.setattr(module, "descendants", of_the_test)


def look_until(herd: Herd, condition: object, seconds: float = 10.0) -> None:
    def met() -> bool:
        herd.look()
        return bool(condition())  # type: ignore[operator]

    wait_for(met, seconds)


def test_a_child_that_had_come_up_is_started_again() -> None:
    herd = Herd()
    child = herd.add("a", lambda: spawn("import time; time.sleep(600)"))
    first = child.pid
    assert first
    time.sleep(0.5)
    herd.look()
    os.kill(first, signal.SIGKILL)
    look_until(herd, lambda: child.starts == 2 and child.pid != first)
    herd.stop(5)
    assert child.state is ChildState.STOPPED


def test_a_child_that_never_comes_up_fails_at_once() -> None:
    herd = Herd()
    child = herd.add("a", lambda: spawn("raise SystemExit(7)"))
    look_until(herd, lambda: child.state is ChildState.FAILED)
    assert (child.exit_code, child.starts) == (7, 1)
    herd.stop(1)
    assert child.state is ChildState.FAILED, "a stop does not make a failure look like one"


def test_a_child_that_dies_again_and_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGIVEN", 1)
    once = tmp_path / "once"
    code = (
        "import pathlib, sys, time; path = pathlib.Path(sys.argv[1]); again = path.exists();"
        "path.touch(); time.sleep(0 if again else 0.6)"
    )
    herd = Herd()
    child = herd.add("a", lambda: spawn(code, str(once)))
    look_until(herd, lambda: child.state is ChildState.FAILED)
    assert child.starts == 3
    herd.stop(1)


def test_a_stop_ends_grandchildren_in_other_sessions_too(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path.cwd())!r})
import subprocess, time
from include.embedded.herd import Herd
from include.pods.forking import adopt_orphans
adopt_orphans()
child = (
    "import subprocess, sys;"
    "command = [sys.executable, '-c', 'import time; time.sleep(600)'];"
    "print(subprocess.Popen(command, start_new_session=True).pid, flush=True)"
)
def spawn():
    process = subprocess.Popen([sys.executable, "-c", child], process_group=0)
    process.returncode = 0
    return process.pid
herd = Herd()
herd.add("a", spawn)
for _ in range(20):
    herd.look(); time.sleep(0.05)
print("killed", herd.stop(2), flush=True)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    lines = result.stdout.split()
    assert "killed" in lines, result.stderr
    assert not is_running(int(lines[0]))


def test_a_child_that_ignores_the_first_sigterm_gets_a_second() -> None:
    code = (
        "import signal, sys, time\n"
        "def second(*_): sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, second))\n"
        "while True: time.sleep(0.05)"
    )
    herd = Herd()
    child = herd.add("a", lambda: spawn(code))
    time.sleep(0.5)
    began = time.monotonic()
    assert herd.stop(8, nudge_after=0.5) == 0
    assert time.monotonic() - began < 4
    assert child.exit_code == 0


def test_what_will_not_end_is_killed() -> None:
    herd = Herd()
    child = herd.add("a", lambda: spawn("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"))
    pid = child.pid
    assert pid
    time.sleep(0.5)
    assert herd.stop(0.5) == 1
    assert not is_running(pid)
