"""Looks into the files of a package before anything loads them: only data may be in there, whatever the names say.

A name is a promise: `.json` must be JSON, `.npy` an array of numbers, `.onnx` a graph of operators that the runtime
ships. So a pickle is refused wherever it hides: as an array of objects, as a member of a `.npz`, under another name.
Nothing in here executes or unpacks what it looks at.

What is refused, besides pickles: operators that need a library of their own or run Python, weights that an ONNX file
keeps outside of the package, Arrow types that are read by unpickling, links, archives that grow without measure, files
that are cut off.
"""

from __future__ import annotations

import json
import math
import mmap
import pickletools
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from include.errors import DataError, clip
from include.serving.onnx_scan import OnnxFault, read_onnx

MAX_FILES, MAX_BYTES, MAX_TEXT_BYTES = 1_000, 32 << 30, 512 << 20
_MAX_HEADER = 100 << 20
_MAX_GROWTH = 1_000
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
#: Of the domains above, and yet more than arithmetic: Python, another library's compiled model, torch's own operators.
_RUNS_CODE = frozenset({"PythonOp", "PythonOpGrad", "ATen", "EPContext", "ExternalOp"})
_EXECUTES = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1"})
_PICKLED_TYPE = b"arrow.py_extension_type"


class UnsafeFile(DataError):
    """A file of a package may not be loaded."""


def scan(folder: Path) -> dict[str, Any]:
    """Looks at every file of a package folder.

    Returns:
        `files`, `bytes`, `kinds` (suffix -> number of files), `operators` (of ONNX files, with their number of kinds).

    Raises:
        UnsafeFile: A file may not be loaded, or is not what its name says.
    """
    kinds: Counter[str] = Counter()
    operators: set[str] = set()
    size = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _unsafe(folder, name, "is a link, or no plain file")
        if path.is_dir():
            continue
        size += path.stat().st_size
        kinds[path.suffix] += 1
        if sum(kinds.values()) > MAX_FILES or size > MAX_BYTES:
            raise _unsafe(folder, name, f"is beyond {MAX_FILES} files or {MAX_BYTES >> 30} GiB")
        operators |= _look(folder, path, name)
    return {"files": sum(kinds.values()), "bytes": size, "kinds": dict(kinds), "operators": len(operators)}


def _look(folder: Path, path: Path, name: str) -> set[str]:
    """Looks at one file; returns the operators of an ONNX file."""
    if path.suffix == ".onnx":
        return _onnx(folder, path, name)
    check = _CHECKS.get(path.suffix)
    if check is None:
        raise _unsafe(folder, name, f"is of a kind that is not loaded ({path.suffix or 'no suffix'})")
    try:
        with path.open("rb") as file:
            check(file, path.stat().st_size)
    except UnsafeFile as error:
        raise _unsafe(folder, name, error.message) from None
    except Exception as error:  # a file made to do harm may raise anything in the library that reads it
        raise _unsafe(folder, name, f"is not what its name says: {clip(error, 120)}") from error
    return set()


def _unsafe(folder: Path, name: str, what: str) -> UnsafeFile:
    return UnsafeFile(f"{name} {what}", where=str(folder), hint="do not load it; export the model again")


def _onnx(folder: Path, path: Path, name: str) -> set[str]:
    try:
        with path.open("rb") as file:
            # Not closed by hand: an error holds on to views of it, and ends with it.
            found = read_onnx(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OnnxFault, ValueError, OSError) as error:
        message = error.message if isinstance(error, OnnxFault) else str(error)
        raise _unsafe(folder, name, f"is no ONNX model: {clip(message, 120)}") from None
    for domain, operator in sorted(found.operators - found.functions):
        if domain not in _DOMAINS or operator in _RUNS_CODE:
            raise _unsafe(
                folder, name, f"holds the operator {clip(f'{domain}::{operator}', 100)}, which runs other code"
            )
    for location, offset, length in sorted(found.external):
        _external(folder, path, name, location, offset, length)
    return {f"{domain}::{operator}" for domain, operator in found.operators}


def _external(folder: Path, path: Path, name: str, location: str, offset: str, length: str) -> None:
    plain = PurePosixPath(location)
    inside = location and "\0" not in location and "\\" not in location and not plain.is_absolute()
    target = path.parent / location if inside and ".." not in plain.parts else None
    if target is None or not target.is_file() or target.is_symlink() or target.suffix not in _CHECKS:
        raise _unsafe(folder, name, f"keeps weights outside of the package: {clip(location, 80)!r}")
    if any(text and not text.isdigit() for text in (offset, length)):
        raise _unsafe(folder, name, "keeps weights at a place that is no number")
    if int(offset[:20] or 0) + int(length[:20] or 0) > target.stat().st_size:
        raise _unsafe(folder, name, f"keeps weights beyond the end of {clip(location, 80)!r}")


def _json(file: IO[bytes], size: int) -> None:
    json.loads(_text_of(file, size))


def _plain_text(file: IO[bytes], size: int) -> None:
    text = _text_of(file, size)
    if "\0" in text:
        raise UnsafeFile("is no text")
    if _is_pickle(text.encode()):
        raise UnsafeFile("is a pickle")


def _text_of(file: IO[bytes], size: int) -> str:
    if size > MAX_TEXT_BYTES:
        raise UnsafeFile(f"is a text of more than {MAX_TEXT_BYTES >> 20} MiB")
    return file.read().decode("utf-8")


def _is_pickle(data: bytes) -> bool:
    """Whether the bytes are a pickle that would call something; a pickle of version 0 is plain text."""
    called = False
    try:
        for opcode, _, _ in pickletools.genops(data):
            called = called or opcode.name in _EXECUTES
    except (ValueError, IndexError, UnicodeError, OverflowError):
        return False
    return called


def _npy(file: IO[bytes], size: int) -> None:
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UnsafeFile("is of a version of the format that is not known")
    reader: Callable[..., Any] = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = reader(file)
    if dtype.hasobject:
        raise UnsafeFile("is an array of objects: a pickle")
    if file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise UnsafeFile("is cut off, or longer than its header says")


def _npz(file: IO[bytes], size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MAX_FILES or sum(member.file_size for member in members) > max(size, 1) * _MAX_GROWTH:
            raise UnsafeFile("is an archive that grows without measure")
        for member in members:
            if not member.filename.endswith(".npy") or "/" in member.filename or "\\" in member.filename:
                raise UnsafeFile(f"holds {clip(member.filename, 80)!r}, which is no array")
            with archive.open(member) as inner:
                _npy(inner, member.file_size)


def _parquet(file: IO[bytes], size: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file)
    except pa.ArrowException as error:
        raise UnsafeFile(f"is no Parquet file: {clip(error, 120)}") from error
    for key, value in (metadata.metadata or {}).items():
        if _PICKLED_TYPE in (key + value) or _PICKLED_TYPE in _decoded(value):
            raise UnsafeFile("has a column of a type that is read by unpickling")


def _decoded(value: bytes) -> bytes:
    """Arrow keeps its schema in base64."""
    import base64
    import binascii

    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _safetensors(file: IO[bytes], size: int) -> None:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(_MAX_HEADER, size - 8):
        raise UnsafeFile("is cut off, or no safetensors file")
    header = json.loads(file.read(length).decode("utf-8"))
    ends = [tuple(entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__"]
    at = 0
    for begin, end in sorted(ends):
        if begin != at or end < begin:
            raise UnsafeFile("has tensors that overlap, or holes between them")
        at = end
    if 8 + length + at != size:
        raise UnsafeFile("is cut off, or longer than its header says")


_CHECKS: Mapping[str, Callable[[IO[bytes], int], None]] = {
    ".json": _json,
    ".txt": _plain_text,
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
}
