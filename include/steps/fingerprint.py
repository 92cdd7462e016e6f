"""What makes two pieces of work the same: code version, parameters and input digests, hashed."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from include.settings import PROJECT_ROOT

_CODE_SUFFIXES = frozenset({".py", ".yaml"})


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and no spaces: equal values give equal text.

    Raises:
        TypeError: A value is not JSON-serialisable.
        ValueError: A number is NaN or infinite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def fingerprint(**parts: Any) -> str:
    """sha256 (hex) of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def code_version(root: Path = PROJECT_ROOT / "include") -> str:
    """sha256 (hex, 16 characters) of the library's source: other code may give other results.

    `include/cli`, `include/dossier` and `include/embedded` do not count: they start and show work, and cannot change
    its outcome.
    """
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if (
            path.suffix not in _CODE_SUFFIXES
            or relative.parts[0] in {"cli.py", "cli", "dossier", "embedded"}
            or not path.is_file()
        ):
            continue
        if path.name == "family.yaml":  # its values are parameters; they count where a step uses them
            continue
        digest.update(relative.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
