"""Objects that a version rests on, held against the digests that were recorded for them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from include.errors import WindtunnelError
from include.serving.package import PACKAGE_FILE, PackageError, content_digest, package_prefix, read_package
from include.store.objects import ObjectNotFound, ObjectStore


class State(str, Enum):
    """What is known of a stored object."""

    WHOLE = "whole"  # it has the digest that was recorded
    UNPROVEN = "unproven"  # it is there, and no digest of it was recorded
    ALTERED = "altered"
    MISSING = "missing"
    UNREADABLE = "unreadable"  # the store does not answer, or it is no object of this kind


@dataclass(frozen=True)
class Stored:
    """An object: where it lies, what was recorded of it, and what was found.

    Attributes:
        digest: sha256 (hex) that was recorded; None where none was.
        why: What is wrong with it; empty where nothing is.
    """

    name: str
    key: str
    digest: str | None
    state: State
    why: str = ""

    @property
    def is_sound(self) -> bool:
        return self.state in {State.WHOLE, State.UNPROVEN}

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable record."""
        return {**vars(self), "state": self.state.value}


def read_checked(store: ObjectStore, name: str, key: str, digest: str | None) -> tuple[Stored, bytes | None]:
    """The object with what is known of it; no bytes where it must not be believed."""
    try:
        data = store.get(key)
    except ObjectNotFound:
        return Stored(name, key, digest, State.MISSING, f"the {name} is gone from the object store"), None
    except WindtunnelError as error:
        return Stored(name, key, digest, State.UNREADABLE, f"the {name} cannot be read: {error.message}"), None
    if digest is None:
        return Stored(name, key, None, State.UNPROVEN), data
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        why = f"the {name} was altered: its sha256 begins with {found[:12]}, recorded was {digest[:12]}"
        return Stored(name, key, digest, State.ALTERED, why), None
    return Stored(name, key, digest, State.WHOLE), data


def unreadable(stored: Stored, error: Exception) -> Stored:
    """`stored`, whose content is not of the kind that was expected."""
    why = f"the {stored.name} is not in a form that this code reads: {type(error).__name__}"
    return Stored(stored.name, stored.key, stored.digest, State.UNREADABLE, why)


def read_json(store: ObjectStore, key: str) -> dict[str, Any] | None:
    """The JSON object under `key`; None where there is none that can be read."""
    try:
        found = json.loads(store.get(key))
    except (WindtunnelError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def package_facts(store: ObjectStore, family: str, digest: str) -> dict[str, Any]:
    """What is in the store of the package with this digest: `stored`, `files` (name -> bytes), `bytes`, `facts`.

    Its list of files is held against the digest; the files themselves are looked for, and not read.
    """
    prefix = package_prefix(family, digest)
    key = f"{prefix}/{PACKAGE_FILE}"
    nothing: dict[str, Any] = {"files": {}, "bytes": None, "facts": {}}
    stored, data = read_checked(store, "model package", key, None)
    if data is None:
        return {"stored": Stored(stored.name, key, digest, stored.state, stored.why).to_json(), **nothing}
    try:
        with tempfile.TemporaryDirectory(prefix="windtunnel-dossier-") as folder:
            (Path(folder) / PACKAGE_FILE).write_bytes(data)
            package = read_package(Path(folder))
    except PackageError as error:
        return {"stored": Stored(stored.name, key, digest, State.UNREADABLE, error.message).to_json(), **nothing}
    files = {name: size for name, (_, size) in sorted(package.files.items())}
    known = {"files": files, "bytes": package.size, "facts": package.facts}
    if digest not in {content_digest(package.family, package.code, package.files)} & {package.digest}:
        why = "the model package was altered: its list of files has another digest"
        return {"stored": Stored(stored.name, key, digest, State.ALTERED, why).to_json(), **known}
    present = set(store.keys(f"{prefix}/"))
    gone = [name for name in files if f"{prefix}/{name}" not in present]
    if gone:
        why = f"of the model package {', '.join(gone[:5])} {'is' if len(gone) == 1 else 'are'} gone"
        return {"stored": Stored(stored.name, key, digest, State.MISSING, why).to_json(), **known}
    return {"stored": Stored(stored.name, key, digest, State.WHOLE).to_json(), **known}


def problem(stored: Mapping[str, Any]) -> str:
    """What is wrong with a `Stored` record; empty where nothing is."""
    return str(stored["why"])
