"""Scratch folders: one's own while one lives, and nobody's for long afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.settings import Settings
from include.store import scratch
from include.store.scratch import ScratchFolder, scratch_folder, scratch_root

_HOLD = """
import sys
from include.store.scratch import ScratchFolder
folder = ScratchFolder("held")
(folder.path / "rows").write_text("x")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(scratch, "_cleared", set())
    yield


def _holder() -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a folder, and the folder."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_of_the_installation_and_gone_afterwards(settings: Settings) -> None:
    with scratch_folder("check") as first, scratch_folder("check") as second:
        assert first != second and first.parent == scratch_root()
        assert scratch_root().is_relative_to(settings.home)
        (first / "inner").mkdir()
        (first / "inner" / "file").write_text("x")
    assert list(scratch_root().iterdir()) == []


def test_it_is_removed_when_an_error_ends_the_block_and_when_nobody_refers_to_it() -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder("read"):
        raise ZeroDivisionError
    kept = ScratchFolder("marks")
    path = kept.path
    assert path.is_dir()
    del kept
    assert not path.exists()


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_holds_is_not() -> None:
    killed, left = _holder()
    living, held = _holder()
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "rows").exists()
        with scratch_folder("own") as own:
            assert not left.exists()
            assert (held / "rows").exists() and own.is_dir()
    finally:
        living.communicate("", timeout=20)
    assert list(scratch_root().iterdir()) == []


def test_a_fork_leaves_the_folder_to_its_maker_and_keeps_it_held() -> None:
    folder = ScratchFolder("parent")
    pid = os.fork()
    if pid == 0:
        folder.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert folder.path.is_dir()
    folder.close()
    assert not folder.path.exists()
