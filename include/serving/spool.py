"""Segments on this machine's disk, until the object store has them.

Every process has a folder of its own under a common one, and holds a lock on it as long as it lives. What a process
that was killed left behind is taken over by the next one that looks. A file is named by its key and is there whole or
not at all, so whoever uploads one, and how often, it becomes the same object.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

from include.errors import WindtunnelError

_TEMPORARY = ".tmp-"
_LOCK = ".lock"


class SpoolError(WindtunnelError):
    """The folder cannot be written."""


class Spool:
    """This process's waiting segments, bounded in bytes. Thread-safe.

    Args:
        root: The common folder.
        max_bytes: Beyond it the oldest segments are dropped.
    """

    def __init__(self, root: Path, max_bytes: int = 256 << 20) -> None:
        self._root = root
        self._folder = root / uuid.uuid4().hex
        self._max_bytes = max_bytes
        self._held: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[int, int]] = {}  # file name -> (rows, bytes), oldest first
        self._bytes = 0

    @property
    def rows(self) -> int:
        """Rows that wait."""
        with self._lock:
            return sum(rows for rows, _ in self._kept.values())

    def put(self, key: str, data: bytes, rows: int) -> int:
        """Keeps a segment; returns how many rows of older ones were dropped to make room.

        Raises:
            SpoolError: It cannot be written; nothing was dropped.
        """
        name = quote(key, safe="")
        temporary = self._folder / f"{_TEMPORARY}{name}"
        try:
            self._own_folder()
            temporary.write_bytes(data)
            os.replace(temporary, self._folder / name)
        except OSError as error:
            raise SpoolError(
                f"the prediction log cannot be kept: {error.strerror}",
                where=str(self._folder),
                hint="check that the folder is writable and the disk is not full",
            ) from error
        with self._lock:
            return self._keep(name, rows, len(data))

    def adopt(self) -> None:
        """Takes over what processes that are gone have left.

        Raises:
            SpoolError: The folder cannot be read or written.
        """
        try:
            for folder in sorted(self._root.iterdir()) if self._root.is_dir() else ():
                if folder.is_dir() and folder != self._folder:
                    self._adopt(folder)
        except OSError as error:
            raise SpoolError(
                f"what another process left cannot be taken over: {error.strerror}", where=str(self._root)
            ) from error

    def waiting(self) -> list[str]:
        """Keys of the segments that wait, oldest first."""
        with self._lock:
            return [unquote(name) for name in self._kept]

    def read(self, key: str) -> bytes | None:
        """The segment; None where it has been dropped meanwhile."""
        try:
            return (self._folder / quote(key, safe="")).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, key: str) -> None:
        """The store has it."""
        with self._lock:
            self._drop(quote(key, safe=""))

    def close(self) -> None:
        """Gives the folder up: what waits in it is for another process."""
        with self._lock:
            if self._held is None:
                return
            if not self._kept:
                for path in (self._folder.rmdir, _lock_path(self._folder).unlink):
                    path()
            self._held.close()
            self._held = None

    def _own_folder(self) -> None:
        if self._held is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._held = _locked(self._folder)
        self._folder.mkdir(exist_ok=True)

    def _adopt(self, folder: Path) -> None:
        held = _locked(folder)
        if held is None:  # its process lives
            return
        with held:
            for path in sorted(folder.iterdir()):
                if path.name.startswith(_TEMPORARY):  # half of a segment that nobody counted on
                    path.unlink()
                    continue
                data = path.read_bytes()
                self._own_folder()
                os.replace(path, self._folder / path.name)
                with self._lock:
                    self._keep(path.name, data.count(b"\n"), len(data))
            folder.rmdir()
            _lock_path(folder).unlink(missing_ok=True)

    def _keep(self, name: str, rows: int, size: int) -> int:
        self._kept[name] = (rows, size)
        self._bytes += size
        dropped = 0
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            dropped += self._drop(next(iter(self._kept)))
        return dropped

    def _drop(self, name: str) -> int:
        (self._folder / name).unlink(missing_ok=True)
        rows, size = self._kept.pop(name, (0, 0))
        self._bytes -= size
        return rows


def _lock_path(folder: Path) -> Path:
    return folder.with_suffix(_LOCK)


def _locked(folder: Path) -> IO[bytes] | None:
    """The lock on a folder, held as long as the file is open; None where another process has it."""
    file = _lock_path(folder).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
