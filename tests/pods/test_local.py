"""Local pods keep the contract of a pod, cold or warm: found again, logged, stopped whole, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from include.pods.contract import PodPhase, PodSpec
from include.pods.local import LocalPodRunner, pod_name
from tests.pods.conftest import python, until, wait_for


@pytest.fixture(params=["cold", "warm"])
def runner(tmp_path: Path, request: pytest.FixtureRequest) -> LocalPodRunner:
    """The same contract, however a pod is started."""
    if request.param == "cold":
        return LocalPodRunner(tmp_path / "pods")
    return LocalPodRunner(tmp_path / "pods", request.getfixturevalue("warm_server").starts())


def supervisor_pid(tmp_path: Path, name: str) -> int:
    return int((tmp_path / "pods" / name / "ready").read_text())


def marked_processes(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if mark in (process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_pod_that_was_never_started_is_absent(runner: LocalPodRunner) -> None:
    assert runner.status("nothing").phase is PodPhase.ABSENT
    assert runner.logs("nothing", 0) == b""


def test_exit_status_and_log_are_kept(runner: LocalPodRunner) -> None:
    runner.start(PodSpec("p", python("print('hello'); raise SystemExit(3)")))
    wait_for(runner, "p", PodPhase.FAILED)
    assert runner.status("p").exit_code == 3
    assert runner.logs("p", 0) == b"hello\n"
    assert runner.logs("p", 2) == b"llo\n"


def test_a_running_pod_is_found_and_not_started_twice(runner: LocalPodRunner) -> None:
    spec = PodSpec("p", python("import time; time.sleep(30)"))
    assert runner.start(spec) is True
    assert LocalPodRunner(runner._folder, runner._warm).start(spec) is False
    runner.stop("p")
    assert runner.status("p").exit_code == 128 + signal.SIGTERM


def test_many_starters_make_one_process(runner: LocalPodRunner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    spec = PodSpec("p", python(f"import time; open({str(out)!r}, 'a').write('x'); time.sleep(2)"))
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda _: runner.start(spec), range(8)))
    wait_for(runner, "p", PodPhase.SUCCEEDED)
    assert started.count(True) == 1
    assert out.read_text() == "x"


def test_an_ended_pod_is_replaced_and_its_old_log_kept(runner: LocalPodRunner, tmp_path: Path) -> None:
    runner.start(PodSpec("p", python("print('first'); raise SystemExit(1)")))
    wait_for(runner, "p", PodPhase.FAILED)
    assert runner.start(PodSpec("p", python("print('second')"))) is True
    wait_for(runner, "p", PodPhase.SUCCEEDED)
    assert runner.logs("p", 0) == b"second\n"
    assert (tmp_path / "pods" / "p" / "log.previous").read_bytes() == b"first\n"


def test_stopping_ends_grandchildren_in_sessions_of_their_own(runner: LocalPodRunner) -> None:
    mark = f"mark-{time.time_ns()}"
    code = (
        "import subprocess, sys, time\n"
        "command = [sys.executable, '-S', '-c', 'import time; time.sleep(60)']\n"
        f"subprocess.Popen([*command, {mark!r}], start_new_session=True)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    runner.start(PodSpec("p", python(code)))
    deadline = time.monotonic() + 10
    while b"up" not in runner.logs("p", 0):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert marked_processes(mark)
    runner.stop("p")
    assert not [process for process in marked_processes(mark) if process.status() != psutil.STATUS_ZOMBIE]


def test_a_pod_can_be_stopped_while_it_is_only_starting(runner: LocalPodRunner, tmp_path: Path) -> None:
    """Its supervisor holds the lock before it has written who it is."""
    starter = ThreadPoolExecutor(1).submit(runner.start, PodSpec("p", python("import time; time.sleep(60)")))
    while runner.status("p").phase is not PodPhase.RUNNING:
        assert not (starter.done() and starter.exception()), starter.exception()
        time.sleep(0.0005)
    began = time.monotonic()
    runner.stop("p")
    assert time.monotonic() - began < 10
    assert runner.status("p").phase is PodPhase.FAILED
    starter.result()


def test_a_pod_that_ignores_sigterm_is_killed_after_the_grace(
    runner: LocalPodRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.pods.local._GRACE_SECONDS", 0.5)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    runner.start(PodSpec("p", python(code)))
    while b"up" not in runner.logs("p", 0):
        time.sleep(0.02)
    runner.stop("p", 0.5)
    assert runner.status("p").exit_code == 128 + signal.SIGKILL


def test_killing_the_supervisor_kills_the_pod_and_shows_as_lost(runner: LocalPodRunner, tmp_path: Path) -> None:
    runner.start(PodSpec("p", python("import os, time; print(os.getpid(), flush=True); time.sleep(60)")))
    until(lambda: runner.logs("p", 0))
    pod = psutil.Process(int(runner.logs("p", 0)))
    os.kill(supervisor_pid(tmp_path, "p"), signal.SIGKILL)
    wait_for(runner, "p", PodPhase.LOST)
    until(lambda: not pod.is_running() or pod.status() == psutil.STATUS_ZOMBIE)
    assert runner.start(PodSpec("p", python("pass"))) is True
    wait_for(runner, "p", PodPhase.SUCCEEDED)


def test_the_pod_outlives_the_process_that_started_it(runner: LocalPodRunner, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from include.pods.local import LocalPodRunner\n"
        "from include.pods.contract import PodSpec\n"
        "import os, signal\n"
        f"LocalPodRunner(Path({str(tmp_path / 'pods')!r})).start(PodSpec('p', ['sleep', '1']))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert runner.status("p").phase is PodPhase.RUNNING
    wait_for(runner, "p", PodPhase.SUCCEEDED)


def test_a_command_that_does_not_exist_fails_with_a_log(runner: LocalPodRunner) -> None:
    runner.start(PodSpec("p", ["/no/such/program"]))
    wait_for(runner, "p", PodPhase.FAILED)
    assert runner.status("p").exit_code == 127
    assert b"cannot start /no/such/program" in runner.logs("p", 0)


def test_names_are_safe_and_differ_for_different_work() -> None:
    first, second = (
        pod_name("train__x", "manual__2026-11-02T00:00:00+00:00", "fit", -1),
        pod_name("train__x", "m", "fit", 0),
    )
    assert first != second
    assert all(char.isalnum() or char == "-" for char in first)
    assert len(pod_name("x" * 500)) <= 63


def test_prune_removes_only_what_ended(runner: LocalPodRunner) -> None:
    runner.start(PodSpec("done", python("pass")))
    runner.start(PodSpec("busy", python("import time; time.sleep(30)")))
    wait_for(runner, "done", PodPhase.SUCCEEDED)
    assert runner.prune(0, time.time() + 10) == 1
    assert runner.status("busy").phase is PodPhase.RUNNING
    runner.stop("busy")


def test_an_end_tells_what_was_used_and_which_start_it_was(runner: LocalPodRunner) -> None:
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))'])"
    attempts = set()
    for _ in range(2):
        runner.start(PodSpec("pod", python(busy)))
        wait_for(runner, "pod", PodPhase.SUCCEEDED)
        status = runner.status("pod")
        assert status.usage is not None and status.usage.cpu_seconds is not None and status.usage.peak_bytes is not None
        assert status.usage.seconds > 0 and status.usage.cpu_seconds > 0.05 and status.usage.peak_bytes > 10**6
        assert not status.stopped and status.oom_kills == 0
        attempts.add(status.attempt)
    assert len(attempts) == 2 and "" not in attempts
