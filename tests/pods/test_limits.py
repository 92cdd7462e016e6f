"""What a local pod may use: held by real control groups where this machine lets one be made, else as far as it goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from include.failures.classify import Evidence, classify
from include.failures.endings import Ending
from include.pods.cgroup import PodGroup, quota
from include.pods.contract import PodLimits, PodPhase, PodSpec, PodStatus
from include.pods.local import LocalPodRunner
from tests.pods.conftest import WarmServer, python, until

GROW = "held = []\nfor _ in range(60): held.append(b'x' * (10 << 20))\nprint('all of it')"


def _can_limit() -> bool:
    group = PodGroup("windtunnel-test-probe", 1 << 30, 1.0)
    group.remove()
    return not group.missing


@pytest.fixture(params=["cold", "warm"])
def runner(tmp_path: Path, request: pytest.FixtureRequest) -> LocalPodRunner:
    if not _can_limit():
        pytest.skip("this machine lets nobody make control groups")
    warm: WarmServer | None = request.getfixturevalue("warm_server") if request.param == "warm" else None
    return LocalPodRunner(tmp_path / "pods", warm.starts() if warm else None)


def run(runner: LocalPodRunner, code: str, limits: PodLimits) -> tuple[PodStatus, list[str]]:
    runner.start(PodSpec("p", python(code), limits=limits))
    until(lambda: runner.status("p").phase is not PodPhase.RUNNING)
    return runner.status("p"), runner.tail("p")


def test_too_much_memory_ends_the_pod_and_is_known_as_that(runner: LocalPodRunner) -> None:
    status, log = run(runner, GROW, PodLimits(memory_bytes=200 << 20))
    assert (status.exit_code, status.oom_kills) == (137, 1)
    assert log == ["limits: memory 200 MiB (control group)"]
    evidence = Evidence(exit_code=status.exit_code, log_tail=log, oom_kills=status.oom_kills)
    assert classify(evidence).ending is Ending.OUT_OF_MEMORY


def test_the_limit_is_for_all_processes_together_and_one_of_them_is_counted(runner: LocalPodRunner) -> None:
    code = f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {GROW!r}]).returncode)"
    status, log = run(runner, code, PodLimits(memory_bytes=200 << 20))
    assert (status.exit_code, status.oom_kills, log[-1]) == (0, 1, "-9")


def test_the_pod_knows_its_cores_and_computes_with_so_many_threads(runner: LocalPodRunner) -> None:
    code = (
        "from include.pods.cgroup import quota; from include.training.plan import threads_per_process\n"
        "import os; os.environ.pop('OMP_NUM_THREADS', None); print(quota(), threads_per_process(1))"
    )
    status, log = run(runner, code, PodLimits(cpus=0.5))
    assert log == ["limits: cpu 0.5 (control group)", "0.5 1"]
    assert status.phase is PodPhase.SUCCEEDED


def test_nothing_is_left_of_the_group(runner: LocalPodRunner) -> None:
    before = _groups()
    run(runner, "from include.pods.cgroup import _own; print(open('/proc/self/cgroup').read())", PodLimits(1 << 30, 1))
    assert "windtunnel-p-" in runner.logs("p", 0).decode()
    assert _groups() == before


def test_without_limits_there_is_no_group_and_no_word(runner: LocalPodRunner) -> None:
    status, log = run(runner, "print(open('/proc/self/cgroup').read())", PodLimits())
    assert status.phase is PodPhase.SUCCEEDED and not [line for line in log if "windtunnel" in line or "limit" in line]


def test_without_control_groups_each_process_is_limited_and_the_log_says_so(tmp_path: Path) -> None:
    """The supervisor runs with a file system that has no control groups."""
    runner = LocalPodRunner(tmp_path / "pods")
    launch = (
        "import functools, sys; from pathlib import Path; import include.pods.supervisor as s\n"
        "s.PodGroup = functools.partial(s.PodGroup, root=Path('/nowhere'))\n"
        "sys.exit(s.supervise(Path(sys.argv[1])))"
    )
    runner._launch = lambda folder, environment: subprocess.run(  # type: ignore[method-assign]
        [sys.executable, "-c", launch, str(folder)], check=False, env=environment
    )
    runner.start(PodSpec("p", python(GROW), limits=PodLimits(memory_bytes=300 << 20, cpus=0.5)))
    status, log = runner.status("p"), runner.tail("p")
    assert log[0] == (
        "limits: memory 300 MiB (for each process alone: no control group can be made), "
        "cpu 0.5 (NOT LIMITED: no control group can be made)"
    )
    assert status.exit_code == 1 and log[-1] == "MemoryError"
    assert classify(Evidence(exit_code=1, log_tail=log)).ending is Ending.OUT_OF_MEMORY


V2_FILES = {"cgroup.controllers": "cpu memory", "memory.max": "max", "memory.swap.max": "max", "cpu.max": "max 100000"}


def test_version_2_is_written_as_the_kernel_wants_it(tmp_path: Path) -> None:
    """On files that stand for the kernel's: this shows names and values, not that a kernel takes them."""
    own = tmp_path / "sys/fs/cgroup/pod"
    for folder in (own, own / "g"):
        folder.mkdir(parents=True)
        for name, text in V2_FILES.items():
            (folder / name).write_text(text)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod\n")
    (own / "g" / "cgroup.procs").touch()
    assert quota(tmp_path) is None
    group = PodGroup("g", 1 << 20, 1.5, root=tmp_path)
    assert group.folders == [own / "g"] and not group.missing
    assert (own / "g" / "memory.max").read_text().startswith("1048576")
    assert (own / "g" / "cpu.max").read_text() == "150000 100000"
    (own / "g" / "memory.events").write_text("oom 1\noom_kill 2\n")
    assert group.oom_kills() == 2
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/g\n")
    assert quota(tmp_path) == 1.5


def test_a_place_without_control_groups_misses_both_limits(tmp_path: Path) -> None:
    group = PodGroup("g", 1 << 20, 1.0, root=tmp_path)
    assert group.missing == {"memory", "cpu"} and group.folders == [] and group.oom_kills() == 0


def _groups() -> set[Path]:
    return set(Path("/sys/fs/cgroup").glob("*/**/windtunnel-p-*"))
