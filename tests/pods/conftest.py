"""A warm server that imports next to nothing, and the programs of pods."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from include.pods.contract import PodPhase
from include.pods.local import LocalPodRunner
from include.pods.warm import SOCKET, WarmStarts
from include.settings import PROJECT_ROOT

SECONDS = 60


def python(code: str) -> list[str]:
    """The command of a pod that runs `code`, and that both ways of starting can start."""
    return [sys.executable, "-m", "tests.fakes.run_code", code]


def wait_for(runner: LocalPodRunner, name: str, phase: PodPhase) -> None:
    until(lambda: runner.status(name).phase is phase, lambda: f"{name} is {runner.status(name)}, not {phase}")


def until(what: Callable[[], object], otherwise: Callable[[], str] = lambda: "it did not happen") -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)


class SureStarts(WarmStarts):
    """Fails the test where a pod would be started cold."""

    def start(self, pod: Path, attempt: str, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        warm = super().start(pod, attempt, command, environment)
        assert warm or command[0] != sys.executable, "it was not started by the server"
        return warm


@dataclass
class WarmServer:
    """A real server, which imports `tests.fakes.ahead` only.

    Attributes:
        patch: Statements that run in the server first.
        imports: File in which each process that imported it is named.
    """

    folder: Path
    root: Path = PROJECT_ROOT
    minutes: float = 10
    patch: str = ""
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.imports = self.folder.parent / "imports"
        code = (
            "from pathlib import Path; from include.pods import warm_server\n"
            f"{self.patch}\n"
            f"warm_server.main(Path({str(self.folder)!r}), {self.minutes}, ['tests.fakes.ahead'],"
            f" Path({str(self.root)!r}))"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until(lambda: (self.folder / SOCKET).exists() or self.process.poll() is not None)

    def starts(self) -> WarmStarts:
        return SureStarts(self.folder, self.minutes)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def _imports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The variable is part of the environment in which pods and servers must agree: it is set once for a file."""
    path = tmp_path_factory.mktemp("warm") / "imports"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_IMPORTS", str(path))
        yield path


@pytest.fixture(scope="module")
def warm_server(_imports: Path) -> Iterator[WarmServer]:
    """One for all tests of a file that do not harm it; between files, other tests' imports change the environment."""
    server = WarmServer(_imports.parent / "server")
    yield server
    server.close()


@pytest.fixture
def make_server(tmp_path: Path, _imports: Path) -> Iterator[Callable[..., WarmServer]]:
    """Servers that a test may harm."""
    made: list[WarmServer] = []

    def make(**options: object) -> WarmServer:
        made.append(WarmServer(tmp_path / f"server{len(made)}", **options))
        return made[-1]

    yield make
    for server in made:
        server.close()
