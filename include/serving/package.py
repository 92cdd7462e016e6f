"""Model packages: folders of safe files, addressed by the digest of their content.

A package is what is evaluated, registered, served and rolled back to; all of them name it by digest, so none can mean
another model. Only the file kinds in `SAFE_SUFFIXES` are accepted, and only where `include.serving.scan` finds them to
be what they say: nothing that executes code when it is read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from include.errors import WindtunnelError
from include.serving.scan import scan
from include.steps.fingerprint import file_digest, fingerprint
from include.store.objects import ObjectNotFound, ObjectStore

PACKAGE_FILE = "package.json"
SAFE_SUFFIXES = frozenset({".onnx", ".json", ".npy", ".npz", ".parquet", ".safetensors", ".txt"})


class PackageError(WindtunnelError):
    """A model package is incomplete, altered, or holds a file that may not be loaded."""


@dataclass(frozen=True)
class Package:
    """A sealed package: `files` maps relative names to (sha256, bytes)."""

    digest: str
    family: str
    code: str
    files: dict[str, tuple[str, int]]
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files.values())


def package_prefix(family: str, digest: str) -> str:
    """Object-key prefix of a package."""
    return f"models/{family}/{digest}"


def seal(folder: Path, family: str, code: str, facts: dict[str, Any]) -> Package:
    """Writes `package.json` for the files in `folder` and returns the package.

    `facts` (parity, sizes) are kept beside the digest and do not change it.

    Raises:
        PackageError: There is no file, or one of a kind that may not be loaded.
        UnsafeFile: A file is not what its name says.
    """
    files: dict[str, tuple[str, int]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != PACKAGE_FILE):
        name = path.relative_to(folder).as_posix()
        if path.suffix not in SAFE_SUFFIXES:
            allowed = ", ".join(sorted(SAFE_SUFFIXES))
            raise PackageError(
                f"{name} may not be in a model package", where=str(folder), hint=f"allowed kinds: {allowed}"
            )
        files[name] = (file_digest(path), path.stat().st_size)
    if not files:
        raise PackageError("the model package is empty", where=str(folder), hint="the family's export wrote no file")
    scan(folder)
    digest = content_digest(family, code, files)
    package = Package(digest, family, code, files, facts)
    record = {"digest": digest, "family": family, "code": code, "files": files, "facts": facts}
    (folder / PACKAGE_FILE).write_text(json.dumps(record, indent=1, sort_keys=True))
    return package


def read_package(folder: Path) -> Package:
    """The package in `folder`, as its `package.json` says; contents are not checked (see `verify`).

    Raises:
        PackageError: There is no readable `package.json`, or it names files that may not be in a package.
    """
    path = folder / PACKAGE_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): (str(digest), int(size)) for name, (digest, size) in record["files"].items()}
        package = Package(
            str(record["digest"]), str(record["family"]), str(record["code"]), files, dict(record["facts"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(
            f"{PACKAGE_FILE} cannot be read: {type(error).__name__}", where=str(path), hint="export the model again"
        ) from error
    for name in files:
        if not _is_safe(name):
            raise PackageError(f"{name!r} may not be in a model package", where=str(path), hint="do not load it")
    return package


def _is_safe(name: str) -> bool:
    """Whether `name` is a plain relative path (it must not lead out of the folder) of a kind that is only data."""
    path = PurePosixPath(name)
    plain = path.as_posix() == name and not path.is_absolute() and ".." not in path.parts and "\0" not in name
    return plain and path.suffix in SAFE_SUFFIXES and path.name != PACKAGE_FILE


def verify(folder: Path, digest: str) -> Package:
    """Checks every file against the digest.

    Raises:
        PackageError: Something is missing, altered or too much.
    """
    package = read_package(folder)
    if package.digest != digest or content_digest(package.family, package.code, package.files) != digest:
        raise PackageError(
            f"the package is not {digest[:12]}", where=str(folder), hint="do not serve it; export it again"
        )
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {PACKAGE_FILE}
    if present != set(package.files):
        odd = ", ".join(sorted(present ^ set(package.files)))
        raise PackageError(
            f"files missing or too many: {odd}", where=str(folder), hint="do not serve it; export it again"
        )
    for name, (expected, _) in package.files.items():
        if file_digest(folder / name) != expected:
            raise PackageError(f"{name} was altered", where=str(folder), hint="do not serve it; export it again")
    return package


def publish(store: ObjectStore, folder: Path) -> str:
    """Uploads a sealed package and returns its prefix. `package.json` goes last: without it there is no package."""
    package = read_package(folder)
    prefix = package_prefix(package.family, package.digest)
    if not store.exists(f"{prefix}/{PACKAGE_FILE}"):
        for name in package.files:
            store.upload(f"{prefix}/{name}", folder / name)
        store.upload(f"{prefix}/{PACKAGE_FILE}", folder / PACKAGE_FILE)
    return prefix


def fetch(store: ObjectStore, family: str, digest: str, cache: Path) -> Path:
    """A local folder with the verified package; downloaded once per cache, and again when the copy is damaged.

    Raises:
        PackageError: The package is not in the store, or not what was registered.
        UnsafeFile: It holds what may not be loaded.
        StoreError: The store cannot be read.
    """
    target = cache / family / digest
    if target.is_dir():
        try:
            verify(target, digest)
            return target
        except PackageError:  # a full disk or a crash may have damaged the copy; the store has the original
            shutil.rmtree(target, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache))
    try:
        _download(store, package_prefix(family, digest), folder)
        verify(folder, digest)
        scan(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(folder, target)
        except OSError:  # another process was first; then its copy serves, if it is right
            verify(target, digest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _download(store: ObjectStore, prefix: str, folder: Path) -> None:
    try:
        store.download(f"{prefix}/{PACKAGE_FILE}", folder / PACKAGE_FILE)
        for name in read_package(folder).files:
            store.download(f"{prefix}/{name}", folder / name)
    except ObjectNotFound as error:
        raise PackageError(
            f"the package is not (or not whole) in the store: {error.message}",
            where=store.uri(prefix),
            hint="was it removed? Export the model again, or route to another version",
        ) from error


def content_digest(family: str, code: str, files: dict[str, tuple[str, int]]) -> str:
    """The digest of a package of these files (see `Package`)."""
    return fingerprint(family=family, code=code, files={name: list(entry) for name, entry in files.items()})
