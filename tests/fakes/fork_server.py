"""Python's server of forks, with what the tests that ask for it need imported."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

_warm = [""]


class ForkedProgram:
    """`python -m PROGRAM ARGUMENTS` in a group of its own, forked from a server that has `warm` imported.

    It can be asked like a `subprocess.Popen` whose output is a pipe. Started anew, it would import for seconds.

    Args:
        environment: All of the program's variables.
        log: A file for what it prints.
    """

    def __init__(
        self, warm: str, program: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self._log = log
        self._process = forks_of(warm).Process(target=_run, args=(program, list(arguments), dict(environment), log))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        while self.poll() is None and os.getpgid(self.pid) != self.pid:  # else its group is that of the tests
            time.sleep(0.001)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self._log), timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[bytes, None]:
        """All that it printed, once it has ended."""
        self.wait(timeout)
        return self._log.read_bytes(), None

    def close(self) -> None:
        """Kills it and its group."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def _run(program: str, arguments: list[str], environment: dict[str, str], log: Path) -> None:
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def forks_of(module: str) -> ForkServerContext:
    """Processes that are forked from a server that has imported `module`.

    A process has one such server, and one that runs stays as it is: that of other tests is ended first.
    """
    context = multiprocessing.get_context("forkserver")
    if _warm != [module]:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # CPython has it for its own tests
        context.set_forkserver_preload([module])
        _warm[:] = [module]
    return context
