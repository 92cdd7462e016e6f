"""Pods that are forked from a warm server: the same as cold ones, and cold ones whenever the server cannot."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from include.pods import warm
from include.pods.contract import PodPhase, PodSpec
from include.pods.local import LocalPodRunner
from include.pods.warm import WarmStarts
from tests.pods.conftest import WarmServer, python, until, wait_for

FACTS = """
import json, os, sys
import tests.fakes.ahead
print(json.dumps({
    "pid": os.getpid(), "cwd": os.getcwd(), "argv": sys.argv, "name": __name__, "umask": os.umask(0),
    "leads": os.getpgrp() == os.getpid(), "main": sys.modules["__main__"].__spec__.name,
    "secret": os.environ.get("AIRFLOW_CONN_X"), "plain": os.environ.get("WINDTUNNEL_Y"), "path": sys.path[:1],
    "set_by_import": os.environ.get("TEST_SET_BY_IMPORT"), "stdin": sys.stdin.read(),
    "handles": sorted(os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                      if os.path.exists(f"/proc/self/fd/{name}")),
}))
"""
Make = Callable[..., WarmServer]


@pytest.fixture
def runner(tmp_path: Path, warm_server: WarmServer) -> LocalPodRunner:
    return LocalPodRunner(tmp_path / "pods", warm_server.starts())


def run(runner: LocalPodRunner, code: str, name: str = "p", **more: dict[str, str]) -> str:
    """The log of a pod that runs `code` to its end."""
    runner.start(PodSpec(name, python(code), **more))
    until(lambda: runner.status(name).phase is not PodPhase.RUNNING)
    return runner.logs(name, 0).decode()


def test_a_fork_is_like_a_process_of_its_own(runner: LocalPodRunner, warm_server: WarmServer) -> None:
    previous = os.umask(0o027)
    try:
        log = run(runner, FACTS, secrets={"AIRFLOW_CONN_X": "hidden"}, env={"WINDTUNNEL_Y": "shown"})
    finally:
        os.umask(previous)
    facts = json.loads(log)
    assert facts["argv"][1:] == [FACTS] and facts["argv"][0].endswith("tests/fakes/run_code.py")
    assert (facts["name"], facts["main"]) == ("__main__", "tests.fakes.run_code")
    assert (facts["secret"], facts["plain"], facts["umask"]) == ("hidden", "shown", 0o027)
    assert facts["leads"] and facts["stdin"] == "" and facts["cwd"] == str(Path(warm.PROJECT_ROOT))
    assert facts["set_by_import"] == "yes"
    own = str(warm_server.folder)
    assert not [handle for handle in facts["handles"] if "socket" in handle or handle.startswith(own + "/")]
    assert str(facts["pid"]) not in warm_server.imports.read_text().split()


def test_ps_shows_a_fork_as_what_it_runs(make_server: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a stack started is still told by the environment that the kernel shows."""
    monkeypatch.setenv("WINDTUNNEL_STACK", "here")
    code = (
        "import json, os; own = [f'/proc/{pid}/' for pid in (os.getpid(), os.getppid())]\n"
        "print(json.dumps([[open(place + 'cmdline').read().strip('\\0 ') for place in own],"
        " ['WINDTUNNEL_STACK=here' in open(place + 'environ').read() for place in own]]))"
    )
    runner = LocalPodRunner(tmp_path / "pods", make_server().starts())
    (program, supervisor), marked = json.loads(run(runner, code))
    python_name = Path(sys.executable).name
    assert program.startswith(f"{python_name} -m tests.fakes.run_code ")
    assert supervisor == f"{python_name} -m include.pods.supervisor {tmp_path}/pods/p"
    assert marked == [True, True]


def test_nothing_is_imported_again(runner: LocalPodRunner, warm_server: WarmServer) -> None:
    for name in ("a", "b"):
        run(runner, "import tests.fakes.ahead", name)
    assert warm_server.imports.read_text().split().count(str(warm_server.process.pid)) == 1
    assert "".join(path.read_text() for path in (runner._folder).glob("*/log")) == "", (
        "and nothing of the server's is in the logs of its pods"
    )


def test_secrets_are_never_written_down(runner: LocalPodRunner, warm_server: WarmServer, tmp_path: Path) -> None:
    run(runner, "pass", secrets={"AIRFLOW_CONN_X": "do-not-write-me"})
    files = [path for folder in (tmp_path, warm_server.folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if b"do-not-write-me" in path.read_bytes()]
    assert stat.S_IMODE(warm_server.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("import sys; sys.exit('cannot go on')", 1, "cannot go on"),
        ("raise ValueError('what was wrong')", 1, "ValueError: what was wrong"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, ""),
        ("import atexit; atexit.register(print, 'at the end')", 0, "at the end"),
        ("import threading, time; threading.Thread(target=lambda: [time.sleep(1), print('late')]).start()", 0, "late"),
        ("print('no new line', end='')", 0, "no new line"),
    ],
)
def test_it_ends_as_a_program_of_its_own_would(runner: LocalPodRunner, code: str, status: int, said: str) -> None:
    log = run(runner, code)
    assert runner.status("p").exit_code == status
    assert said in log


def test_forks_do_not_draw_the_same_numbers(runner: LocalPodRunner) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    first, second = run(runner, code, "a").split(), run(runner, code, "b").split()
    assert not set(first) & set(second)


def test_a_server_that_is_killed_harms_no_pod_and_no_start(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    runner = LocalPodRunner(tmp_path / "pods", WarmStarts(server.folder, 0))
    (server.folder / warm.UNFIT).write_text("the test wants no other")
    runner.start(
        PodSpec(
            "p",
            python(
                f"import time\nwhile not __import__('os').path.exists({str(tmp_path / 'go')!r}): "
                "time.sleep(0.02)\nprint('done')"
            ),
        )
    )
    server.close()
    assert runner.status("p").phase is PodPhase.RUNNING
    assert run(runner, "print('cold')", "other") == "cold\n"
    (tmp_path / "go").touch()
    wait_for(runner, "p", PodPhase.SUCCEEDED)
    assert runner.logs("p", 0) == b"done\n" and runner.status("p").usage is not None


def test_a_start_that_nobody_answers_is_done_once(
    make_server: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is stuck, the pod is started cold, and then the server comes round."""
    monkeypatch.setattr(warm, "_ANSWER_SECONDS", 0.3)
    server = make_server()
    runner = LocalPodRunner(tmp_path / "pods", WarmStarts(server.folder, 0))
    out = tmp_path / "out"
    code = f"open({str(out)!r}, 'a').write('x')"
    os.kill(server.process.pid, signal.SIGSTOP)
    run(runner, code)
    os.kill(server.process.pid, signal.SIGCONT)
    monkeypatch.setattr(warm, "_ANSWER_SECONDS", 30)
    LocalPodRunner(tmp_path / "pods", server.starts()).start(PodSpec("next", python("pass")))  # after the stuck one
    wait_for(runner, "next", PodPhase.SUCCEEDED)
    until(lambda: not _children(server.process.pid))
    assert out.read_text() == "x" and runner.status("p").exit_code == 0


def test_an_old_request_does_not_start_the_next_attempt(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    pod = tmp_path / "pods" / "p"
    out = tmp_path / "out"
    runner = LocalPodRunner(tmp_path / "pods")
    run(runner, f"open({str(out)!r}, 'a').write('x')")
    (pod / "exit.json").unlink()
    assert not WarmStarts(server.folder, 0).start(pod, "another", python(""), dict(os.environ))
    assert out.read_text() == "x" and not (pod / "exit.json").exists()


def test_changed_code_ends_the_server_before_it_starts_anything(make_server: Make, tmp_path: Path) -> None:
    (tmp_path / "code" / "include").mkdir(parents=True)
    server = make_server(root=tmp_path / "code")
    runner = LocalPodRunner(tmp_path / "pods", WarmStarts(server.folder, 0))
    assert run(runner, "import os; print(os.environ['TEST_SET_BY_IMPORT'])", "warm") == "yes\n"
    (tmp_path / "code" / "include" / "new.py").write_text("")
    (server.folder / warm.UNFIT).write_text("the test wants no other")
    assert "KeyError" in run(runner, "import os; print(os.environ['TEST_SET_BY_IMPORT'])", "cold")
    server.process.wait(30)
    assert "code on the disk has changed" in server.log()


def test_another_environment_is_started_cold(
    warm_server: WarmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Libraries read some variables when they are imported; the server's are imported already."""
    runner = LocalPodRunner(tmp_path / "pods", WarmStarts(warm_server.folder, 5))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with caplog.at_level("INFO"):
        assert run(runner, "import os; print(os.environ.get('TEST_SET_BY_IMPORT'))") == "None\n"
    assert "differs in OMP_NUM_THREADS" in caplog.text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"minutes": 0.0}, "no pod was started"),
        ({"patch": "warm_server.available_bytes = lambda: 1"}, "memory runs short"),
    ],
)
def test_it_ends_by_itself(make_server: Make, options: dict[str, object], reason: str) -> None:
    server = make_server(**options)
    assert server.process.wait(30) == 0
    assert reason in server.log()


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", "threads"),
        ("warm_server.unfit = lambda: 'the imports opened /dev/nvidia0'", "/dev/nvidia0"),
        ("import os; warm_server.import_ahead = lambda *_: os._exit(9)", "did not come to an end"),
    ],
)
def test_what_cannot_be_forked_does_not_serve(
    make_server: Make, tmp_path: Path, patch: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(patch=patch)
    server.process.wait(30)
    assert reason in (server.folder / warm.UNFIT).read_text()
    with caplog.at_level("INFO"):
        assert run(LocalPodRunner(tmp_path / "pods", WarmStarts(server.folder, 5)), "print('cold')") == "cold\n"
    assert "there is no warm server" in caplog.text


def test_no_server_is_started_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warm, "available_bytes", lambda: 1 << 30)
    with caplog.at_level("INFO"):
        assert run(LocalPodRunner(tmp_path / "pods", WarmStarts(tmp_path / "warm", 5)), "print('cold')") == "cold\n"
    assert "less than 3 GiB" in caplog.text
    assert not list((tmp_path / "warm").glob("lo*g"))


@pytest.mark.slow
def test_what_the_steps_import_can_be_forked(tmp_path: Path) -> None:
    """The real server, which the first pod starts, and forks that compute with what it imported."""
    starts = WarmStarts(tmp_path / "warm", 0.5)
    runner = LocalPodRunner(tmp_path / "pods", starts)
    run(runner, "pass", "first")
    log = tmp_path / "warm" / "log"
    until(lambda: "ready" in log.read_text() or "serve" in log.read_text())
    code = f"""
import sys
assert {{"torch", "lightning", "mlflow", "great_expectations", "optuna"}} <= sys.modules.keys()
import deltalake, numpy, pyarrow, pyarrow.compute, torch
deltalake.write_deltalake({str(tmp_path / "table")!r}, pyarrow.table({{"a": [1, 2, 3]}}))
rows = deltalake.DeltaTable({str(tmp_path / "table")!r}).to_pyarrow_table()
torch.set_num_threads(2)
model = torch.nn.Linear(300, 300)
loss = model(torch.randn(300, 300)).square().mean()
loss.backward()
print(pyarrow.compute.sum(rows["a"]), bool(loss > 0), (numpy.ones((300, 300)) @ numpy.ones((300, 300)))[0, 0])
"""
    runner = LocalPodRunner(tmp_path / "pods", starts)
    assert run(runner, code, "second") == "6 True 300.0\n"
    assert "not imported ahead" not in log.read_text()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
