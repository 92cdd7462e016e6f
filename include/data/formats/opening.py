"""Opens files for reading: gzip is undone, and nothing that comes out is larger than a limit.

A gzip bomb is a small file that grows a thousandfold. It is stopped while it grows, so that neither memory nor disk
ever holds what it would become.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from include.data.formats.parsed import FETCH_AGAIN, empty_file
from include.errors import DataError

MAX_FILE_BYTES = 64 << 30  # after decompression
MAX_RATIO = 300  # text shrinks 3 to 30 times, zeros 1030 times
FREE_BYTES = 32 << 20  # a small file may shrink as much as it likes
BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def open_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> BinaryIO:
    """The file's bytes, decompressed where it is gzip, without a byte order mark.

    Reading raises `DataError` where the file cannot be read, is damaged, or grows beyond `max_bytes`.

    Raises:
        DataError: The file cannot be opened, is empty, or is UTF-16.
    """
    file = io.BufferedReader(_File(path, max_bytes), buffer_size=1 << 16)
    start = file.peek(3)
    if not start:
        raise empty_file(path)
    if start[:2] in _UTF16:
        raise DataError("the file is UTF-16", where=f"{path}:1", hint="save it as UTF-8 and deliver it again")
    if start[:3] == BOM:
        file.read(3)
    return cast(BinaryIO, file)


def unreadable(path: Path, error: OSError) -> DataError:
    """The error of a file that the system does not let us read."""
    reason = error.strerror or str(error)
    return DataError(f"cannot be read: {reason}", where=str(path), hint="check that the file is there and readable")


class _File(io.RawIOBase):
    """Raw bytes of a file; turns every failure into a `DataError` and counts what came out."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._out = 0
        self._size = 1
        self._stream: io.RawIOBase | gzip.GzipFile | None = None
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise unreadable(path, error) from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        try:
            if self._stream is None:
                self._stream = self._open()
            read = self._stream.readinto(buffer) or 0  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"damaged gzip: {error}", where=str(self._path), hint=FETCH_AGAIN) from None
        except OSError as error:
            raise unreadable(self._path, error) from error
        self._out += read
        self._check_size()
        return read

    def close(self) -> None:
        self._file.close()
        super().close()

    def _open(self) -> io.RawIOBase | gzip.GzipFile:
        start = self._file.read(2)
        self._file.seek(0)
        if start != _GZIP:
            return self._file
        self._size = self._path.stat().st_size
        return gzip.GzipFile(fileobj=cast(BinaryIO, self._file))

    def _check_size(self) -> None:
        is_bomb = self._stream is not self._file and self._out > max(FREE_BYTES, MAX_RATIO * self._size)
        if is_bomb or self._out > self._max_bytes:
            how = f"more than {MAX_RATIO} times its size" if is_bomb else f"more than {self._max_bytes} bytes"
            raise DataError(
                f"the file unpacks to {how}" if self._stream is not self._file else f"the file has {how}",
                where=str(self._path),
                hint="if it is right, deliver it in parts or raise the source's max_file_bytes",
            )
