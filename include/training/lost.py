"""Work that had to be done again: what a try computed beyond the checkpoint that the next one went on from.

While it trains, rank 0 leaves a mark of how far it is: at every step in a file on its machine, about once a second in
the object store. The next try reads the further one of the two (the file is gone where the machine is: then up to a
second's steps are not seen) and adds the difference to `<output>/lost.json`, once per try.
"""

from __future__ import annotations

import json
import os
import struct
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.store.objects import ObjectNotFound, ObjectStore

_FORMAT = struct.Struct("<16sqdqd")


@dataclass(frozen=True)
class Mark:
    """How far a try is.

    Attributes:
        attempt: Names the try (32 hexadecimal digits).
        step, seconds: Optimizer steps, and seconds in training steps, of the training so far.
        saved_step, saved_seconds: The same at the newest checkpoint.
    """

    attempt: str
    step: int
    seconds: float
    saved_step: int
    saved_seconds: float

    def lost_after(self, step: int) -> tuple[int, float]:
        """Steps and seconds that have to be done again by a try that goes on from `step`."""
        steps = max(0, self.step - step)
        if step == self.saved_step:
            return steps, max(0.0, self.seconds - self.saved_seconds)
        return steps, self.seconds * steps / self.step if self.step else 0.0


class MarkWriter:
    """Rank 0's side. Cheap enough for every step: one write of 48 bytes."""

    def __init__(self, store: ObjectStore, output: str, path: Path, attempt: str) -> None:
        self._store, self._key, self._attempt = store, _mark_key(output), attempt
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT)
        self._saved = (0, 0.0)
        self._mark: Mark | None = None

    def saved(self, step: int, seconds: float) -> None:
        """A checkpoint of this step is in the store."""
        self._saved = (step, seconds)
        self.step(step, seconds)

    def step(self, step: int, seconds: float) -> None:
        """This step is done."""
        mark = self._mark = Mark(self._attempt, step, seconds, *self._saved)
        os.pwrite(self._file, _FORMAT.pack(bytes.fromhex(mark.attempt), step, seconds, *self._saved), 0)

    def publish(self) -> None:
        """Puts the mark into the object store."""
        if self._mark is not None:
            self._store.put(self._key, json.dumps(vars(self._mark)).encode())


class LostWork:
    """The side of the process that starts the tries.

    Args:
        output: The step's object-key prefix.
        path: The file for the marks of tries on this machine; must outlive a try.
    """

    def __init__(self, store: ObjectStore, output: str, path: Path) -> None:
        self._store, self._output, self.path = store, output, path

    def begin(self, step: int) -> str:
        """A new try goes on from the checkpoint of `step` (0: from the start): counts what the one before it lost.

        Returns the name of the new try.
        """
        mark, tries = self._newest(), self._tries()
        if mark is not None and mark.attempt not in {entry["attempt"] for entry in tries}:
            steps, seconds = mark.lost_after(step)
            entry = {"attempt": mark.attempt, "reached": mark.step, "resumed_from": step, "steps": steps}
            tries.append({**entry, "seconds": round(seconds, 3)})
            self._store.put(f"{self._output}/lost.json", json.dumps(tries, indent=1).encode())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return uuid.uuid4().hex

    def total(self) -> dict[str, Any]:
        """`tries` that lost their place, `steps` and `seconds` that were done again because of it."""
        tries = self._tries()
        return {
            "tries": len(tries),
            "steps": sum(entry["steps"] for entry in tries),
            "seconds": round(sum(entry["seconds"] for entry in tries), 3),
        }

    def forget(self) -> None:
        """Training is done: the marks are not needed any more."""
        self.path.unlink(missing_ok=True)
        self._store.delete(_mark_key(self._output))

    def _tries(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads(self._store.get(f"{self._output}/lost.json"))
        except ObjectNotFound:
            return []
        return found

    def _newest(self) -> Mark | None:
        """The mark of the last try; where this machine and the store know the same try, the further one."""
        stored = None
        with suppress(ObjectNotFound):
            stored = Mark(**json.loads(self._store.get(_mark_key(self._output))))
        local = read_mark(self.path)
        if stored is None or local is None:
            return stored or local
        return local if local.attempt == stored.attempt and local.step > stored.step else stored


def read_mark(path: Path) -> Mark | None:
    """The mark in a file of this machine; None where there is none."""
    try:
        attempt, *numbers = _FORMAT.unpack(path.read_bytes())
    except (FileNotFoundError, struct.error):
        return None
    return Mark(attempt.hex(), *numbers)


def _mark_key(output: str) -> str:
    return f"{output}/mark.json"
