"""Checkpoints in the object store: one object each, so that each is whole or absent.

`<output>/checkpoints/step-00000050.ckpt` can be resumed from; the newest is kept, and the one before it until the
newest is whole. `<output>/checkpoints/best.<kind>` holds the weights that validated best: `best.safetensors`, and of
scikit-learn `best.skops`.
"""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path

from include.steps.document import RunDocument
from include.store.objects import ObjectNotFound, ObjectStore

BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d{8})\.ckpt$")

log = logging.getLogger(__name__)


def place(document: RunDocument) -> str:
    """Object-key prefix of one course of training: the step's output, and below it what diverged and began anew."""
    branch = document.adjustment.branch
    return f"{document.output}/{branch}" if branch else document.output


class Checkpoints:
    """The checkpoints of one training.

    Args:
        prefix: Object-key prefix (`place`); holds the step's fingerprint, so that other work never finds them.
    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}/checkpoints"

    def save(self, path: Path, step: int) -> None:
        """Stores a checkpoint file of optimizer step `step`, then removes older ones."""
        key = f"{self._prefix}/step-{step:08d}.ckpt"
        self._store.upload(key, path)
        for older, other in self._steps():
            if older < step:
                self._store.delete(other)

    def save_best(self, path: Path) -> None:
        """Stores the weights that validated best, from a file `best.<kind>`."""
        self._store.upload(f"{self._prefix}/{path.name}", path)

    def newest(self, folder: Path) -> tuple[int, Path] | None:
        """Step and local copy of the newest checkpoint that can be read; None where there is none."""
        passed_over = set[str]()
        while left := [entry for entry in self._steps() if entry[1] not in passed_over]:
            step, key = left[-1]
            passed_over.add(key)
            path = folder / key.rpartition("/")[2]
            try:
                self._store.download(key, path)
            except ObjectNotFound:  # a try that is just dying has saved a newer one, and removed this one
                continue
            if _is_whole(path):
                return step, path
            log.warning("checkpoint %s is damaged and is passed over", key)
            path.unlink()
        return None

    def best(self, folder: Path) -> Path:
        """A local copy of the best weights. Raises `ObjectNotFound`."""
        key = next(iter(self._store.keys(f"{self._prefix}/best.")), f"{self._prefix}/{BEST}")
        path = folder / key.rpartition("/")[2]
        self._store.download(key, path)
        return path

    def drop_resumable(self) -> None:
        """Removes what only serves to resume."""
        for _, key in self._steps():
            self._store.delete(key)

    def _steps(self) -> list[tuple[int, str]]:
        """(step, key) of every resumable checkpoint, ascending."""
        found = [(match, key) for key in self._store.keys(f"{self._prefix}/step-") if (match := _NAME.search(key))]
        return sorted((int(match.group(1)), key) for match, key in found)


def _is_whole(path: Path) -> bool:
    """torch writes zip files with a checksum per entry."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False
