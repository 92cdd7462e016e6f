"""Files are opened under a limit: a gzip bomb is stopped while it grows."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path

import pytest

from include.data.formats.json_text import json_lines
from include.data.formats.opening import open_file
from include.errors import DataError


def bomb(path: Path, megabytes: int) -> Path:
    """A gzip file of that many megabytes of nothing, on one line."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(pack.compress(bytes(1 << 20)))
        file.write(pack.flush())
    return path


def test_a_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = bomb(tmp_path / "f.jsonl.gz", 300)
    assert path.stat().st_size < 400_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="300 times its size") as caught:
            list(json_lines(path, 1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert "max_file_bytes" in caught.value.hint


def test_a_small_file_may_shrink_a_lot(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(gzip.compress(b" " * 5_000_000))
    with open_file(tmp_path / "f.gz") as file:
        assert len(file.read()) == 5_000_000


def test_a_file_beyond_the_limit_is_refused_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"x" * 200_000)
    (tmp_path / "packed").write_bytes(gzip.compress(b"x" * 200_000))
    for name in ("plain", "packed"):
        with pytest.raises(DataError, match="100000 bytes"), open_file(tmp_path / name, 100_000) as file:
            file.read()


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            open_file(path)


def test_a_line_of_fifty_megabytes_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with path.open("wb") as file:
        file.write(b'{"n": 1}\n{"text": "')
        for _ in range(50):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"n": 2}\n')
    tracemalloc.start()
    try:
        problems = [record.problem for record in json_lines(path, 1_000_000)]
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert problems == [None, "too_long", None]
