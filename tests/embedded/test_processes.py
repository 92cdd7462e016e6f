"""Finding and ending processes without hitting a stranger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from include.embedded.processes import MARK, ProcessId, end_all, leftovers

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(SLEEP)
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()


def test_a_process_id_with_another_start_time_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessId.of(sleeper.pid)
    recycled = ProcessId(sleeper.pid, identity.started - 3600)
    assert identity.alive()
    assert not recycled.alive()
    recycled.send(signal.SIGKILL)
    time.sleep(0.1)
    assert sleeper.poll() is None, "a stranger was hit"
    identity.send(signal.SIGKILL)
    assert sleeper.wait(5) == -signal.SIGKILL
    assert not identity.alive()


def test_a_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessId.of(sleeper.pid)
    sleeper.kill()
    deadline = time.monotonic() + 5
    while identity.alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not identity.alive()
    assert psutil.pid_exists(sleeper.pid), "it is still there, as a zombie, because nobody has reaped it"


def test_what_ignores_sigterm_is_killed_after_the_grace() -> None:
    stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert stubborn.stdout and stubborn.stdout.readline() == b"ready\n"
    obedient = subprocess.Popen(SLEEP)
    began = time.monotonic()
    assert end_all([psutil.Process(stubborn.pid), psutil.Process(obedient.pid)], grace=0.5) == 1
    assert stubborn.wait(5) == -signal.SIGKILL
    assert obedient.wait(5) == -signal.SIGTERM
    assert time.monotonic() - began < 5


def test_leftovers_are_those_with_the_mark_of_this_home(tmp_path: Path) -> None:
    mine = subprocess.Popen(SLEEP, env={**os.environ, MARK: str(tmp_path)}, start_new_session=True)
    other = subprocess.Popen(SLEEP, env={**os.environ, MARK: str(tmp_path / "other")})
    try:
        assert [process.pid for process in leftovers(tmp_path)] == [mine.pid]
        assert leftovers(tmp_path, keep=lambda process: process.pid == mine.pid) == []
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def test_a_process_that_hid_its_environment_behind_its_title_is_found(tmp_path: Path) -> None:
    code = (
        "import setproctitle, sys, time; held = open(sys.argv[1], 'a');"
        "setproctitle.setproctitle('airflow worker -- LocalExecutor: <idle>' + ' ' * 200); time.sleep(600)"
    )
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", code, str(log)], env={**os.environ, MARK: str(tmp_path)})
    try:
        deadline = time.monotonic() + 10
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [found.pid for found in leftovers(tmp_path)] == [process.pid]
        assert leftovers(tmp_path / "other") == []
    finally:
        process.kill()
        process.wait()


def test_the_caller_is_never_a_leftover(tmp_path: Path) -> None:
    code = (
        "from include.embedded.processes import leftovers; from pathlib import Path;"
        f"print(leftovers(Path({str(tmp_path)!r})))"
    )
    result = subprocess.run([sys.executable, "-c", code], env={**os.environ, MARK: str(tmp_path)}, capture_output=True)
    assert result.stdout == b"[]\n", result.stderr
