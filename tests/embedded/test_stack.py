"""The stack under a real supervisor: starts, failures, kills, stops, with stand-ins for the services."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from include.embedded.credentials import keep_secrets
from include.embedded.layout import LayoutError
from include.embedded.processes import ProcessId, leftovers
from include.embedded.stack import Health, Stack, StackError, check_service
from include.errors import UserError
from include.settings import Settings
from tests.embedded.conftest import FAKES, is_running, wait_for

MakeStack = Callable[..., Stack]


def pid_of(stack: Stack, name: str = "good") -> int:
    view = stack.view()
    assert view and view.services[name].process
    return view.services[name].process.pid


def test_up_and_down(make_stack: MakeStack) -> None:
    stack = make_stack("good")
    assert stack.view() is None
    assert stack.start()
    view = stack.wait(timeout=20)
    pid, supervisor = pid_of(stack), view.supervisor.pid
    assert check_service(view.services["good"]) is Health.HEALTHY
    assert os.getsid(supervisor) == supervisor != os.getsid(0), "it must outlive the terminal"
    assert not stack.start(), "it runs already"
    assert stack.stop()
    assert not is_running(pid) and not is_running(supervisor)
    assert stack.view() is None
    assert not stack.stop(), "there is nothing to stop any more"


def test_the_same_ports_after_a_restart_and_another_where_one_is_taken(make_stack: MakeStack) -> None:
    stack = make_stack("good")
    stack.start()
    first = stack.wait(timeout=20).ports
    stack.stop()
    stack.start()
    assert stack.wait(timeout=20).ports == first
    stack.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first.airflow))
        taken.listen()
        stack.start()
        ports = stack.wait(timeout=20).ports
    assert ports.airflow != first.airflow
    assert ports.mlflow == first.mlflow


def test_a_service_that_does_not_come_up_is_told_with_the_end_of_its_log(make_stack: MakeStack) -> None:
    stack = make_stack("good", "broken")
    stack.start()
    with pytest.raises(StackError, match="broken did not come up") as caught:
        stack.wait(timeout=20)
    assert "the thing that was wrong" in caught.value.fields["tail"]
    assert "broken.log" in caught.value.where
    assert stack.wait({"good"}, timeout=20), "the others are not held up by it"


def test_a_supervisor_that_does_not_come_up_is_told(settings: Settings) -> None:
    stack = Stack(settings, supervisor=[sys.executable, "-c", "raise SystemExit('no supervisor today')"])
    with pytest.raises(StackError) as caught:
        stack.start()
    assert "no supervisor today" in caught.value.fields["tail"]


def test_a_service_that_was_killed_after_a_while_is_started_again(
    make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDTUNNEL_TEST_CAME_UP", "0.3")
    stack = make_stack("good")
    stack.start()
    stack.wait(timeout=20)
    first = pid_of(stack)
    time.sleep(0.8)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: (view := stack.view()) and view.services["good"].starts == 2)
    stack.wait(timeout=20)
    assert pid_of(stack) != first


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal")
def test_a_killed_supervisor_takes_its_services_along_and_up_starts_anew(make_stack: MakeStack) -> None:
    stack = make_stack("good")
    stack.start()
    stack.wait(timeout=20)
    pid, view = pid_of(stack), stack.view()
    assert view
    os.kill(view.supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not is_running(pid))
    assert stack.view() is None
    assert stack.start()
    assert stack.wait(timeout=20).ports == view.ports


def test_down_finds_what_a_killed_supervisor_left_behind(make_stack: MakeStack) -> None:
    stack = make_stack("parent", "stubborn")
    stack.start()
    stack.wait(timeout=20)
    child = int(re.findall(r"child (\d+)", (stack.layout.log("parent")).read_text())[-1])
    stubborn, view = pid_of(stack, "stubborn"), stack.view()
    assert view
    os.kill(view.supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not stack.running())
    assert is_running(child) and is_running(stubborn)
    assert stack.stop()
    assert not is_running(child) and not is_running(stubborn)


def test_down_ends_a_child_in_another_session(make_stack: MakeStack) -> None:
    stack = make_stack("parent")
    stack.start()
    stack.wait(timeout=20)
    child = int(re.findall(r"child (\d+)", (stack.layout.log("parent")).read_text())[-1])
    stack.stop()
    assert not is_running(child)


def test_two_starts_at_once_make_one_stack(make_stack: MakeStack) -> None:
    stacks = [make_stack("good") for _ in range(4)]
    results: list[bool] = []
    threads = [threading.Thread(target=lambda s=stack: results.append(s.start())) for stack in stacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]
    views = {stack.wait(timeout=20).supervisor for stack in stacks}
    assert len(views) == 1


def test_a_second_supervisor_goes_away(make_stack: MakeStack, settings: Settings) -> None:
    stack = make_stack("good")
    stack.start()
    stack.wait(timeout=20)
    second = subprocess.run([sys.executable, str(FAKES / "stack_services.py"), "good"], timeout=30)
    assert second.returncode == 3
    stack.wait(timeout=20)


def test_a_stop_of_a_start_that_was_interrupted(make_stack: MakeStack) -> None:
    """`up` was killed while the supervisor was coming up: the supervisor may be there without any state yet."""
    stack = make_stack("good")
    stack.layout.make()
    process = subprocess.Popen([sys.executable, str(FAKES / "stack_services.py"), "good"], start_new_session=True)
    wait_for(stack.running)
    stack.stop()
    process.wait(10)
    assert not leftovers(stack.layout.home)


def test_an_answer_from_somebody_else_is_no_health(make_stack: MakeStack) -> None:
    """Another program took the port in between, and answers as well as the service would."""
    stack = make_stack("good")
    stack.start()
    view = stack.wait(timeout=20)
    assert check_service(view.services["good"]) is Health.HEALTHY
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mistaken = replace(view.services["good"], process=ProcessId.of(other.pid))
    assert check_service(mistaken) is Health.STARTING
    other.kill()
    other.wait()


def test_an_unwritable_home_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    stack = Stack(Settings.from_env({"WINDTUNNEL_HOME": str(blocked / "home")}))
    with pytest.raises(LayoutError, match="cannot write") as caught:
        stack.start()
    assert "WINDTUNNEL_HOME" in caught.value.hint


def test_damaged_secrets_are_told_before_anything_starts(make_stack: MakeStack) -> None:
    stack = make_stack("good")
    stack.layout.make()
    keep_secrets(stack.layout.secrets)
    stack.layout.secrets.write_text("{")
    with pytest.raises(UserError, match="secrets"):
        stack.start()
    assert not stack.running()
