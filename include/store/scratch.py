"""Folders for what lies on disk only while a process works with it, under the installation's own `scratch/held`.

Each is locked for as long as the process that made it lives, or one that was forked meanwhile. A folder that nobody
holds was left by a process that was killed: the next one that needs such a folder removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from include.settings import Settings

#: Roots that this process has cleared of what others left: once is enough.
_cleared: set[Path] = set()


def scratch_root() -> Path:
    """Where the folders are; on the disk that needs room for a delivery."""
    return Settings.from_env().home / "scratch" / "held"


class ScratchFolder:
    """An empty folder, removed by `close`, or when nothing refers to it any more.

    Args:
        kind: The start of its name, for whoever looks at a full disk.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, kind: str) -> None:
        root = scratch_root()
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):  # so that nobody sees a folder before it is locked
            left = [] if root in _cleared else _take_left(root)
            self.path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=root))
            handle = _lock(self.path)
        self._end = weakref.finalize(self, _remove, self.path, handle, os.getpid())
        for path, taken in left:
            _remove(path, taken, os.getpid())
        _cleared.add(root)

    def close(self) -> None:
        """Removes it with all that it holds."""
        self._end()


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A `ScratchFolder` for the time of a `with` block."""
    folder = ScratchFolder(kind)
    try:
        yield folder.path
    finally:
        folder.close()


def _take_left(root: Path) -> list[tuple[Path, int]]:
    """The folders that nobody holds, locked by this process from now on."""
    found = []
    for path in root.iterdir():
        with suppress(OSError):  # held by somebody, or gone meanwhile
            found.append((path, _lock(path)))
    return found


def _lock(folder: Path) -> int:
    """Locks a folder; the handle holds the lock. Raises `BlockingIOError` where somebody else does."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove(folder: Path, handle: int, owner: int) -> None:
    if os.getpid() == owner:  # a fork has a copy of what refers to it, and must leave it to its maker
        shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
