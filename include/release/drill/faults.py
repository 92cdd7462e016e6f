"""Models that are bad on purpose: a family's own model, with a fault that its package names.

Such a package is like any other to the release engine and the gateway: sealed, verified, loaded, and really bad. It
loads only where a drill is held (`allow`), so that none of them can ever answer a user.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from include.errors import WindtunnelError
from include.families.contract import ModelRuntime, load_code
from include.serving.package import PACKAGE_FILE, Package, read_package, seal
from include.settings import Settings

CODE = "include.release.drill.faults:FaultyFamily"
FAULT_FILE = "fault.json"
_MARK, _AWAKE = "DRILL", "AWAKE"
_REMEMBERED = 64


class Fault(str, Enum):
    """What is wrong with a model."""

    SLOW = "slow"
    WRONG = "wrong"  # gives some the answer to somebody else's question
    SKEWED = "skewed"  # gives many one and the same answer
    FAILING = "failing"  # on some inputs
    LEAKING = "leaking"
    CRASHING = "crashing"  # when it loads
    KILLING = "killing"  # its process, on some inputs


class FaultPlan(BaseModel):
    """How a model is bad; what its fault does not need is ignored.

    Attributes:
        code: The family's own code, which loads the model below the fault.
        after: Rows that it answers well first, those of its warm-up included.
        sleeps: It goes on answering well until `wake` was called, as a model whose fault shows only among users.
        share: Of inputs that get a wrong or skewed answer, an error, or end the process; always the same ones.
        times: How often a slow model computes every answer.
        at_least_ms: How long a slow model takes for a call at least.
        kilobytes: What a leaking model keeps of every row.
        abruptly: Whether a model that crashes as it loads takes its process along, instead of raising an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    code: str
    after: int = Field(default=0, ge=0)
    sleeps: bool = False
    share: float = Field(default=0.5, ge=0, le=1)
    times: int = Field(default=1, ge=1)
    at_least_ms: float = Field(default=0.0, ge=0)
    kilobytes: int = Field(default=1000, ge=1)
    abruptly: bool = True


class DrillOnly(WindtunnelError):
    """A package that is bad on purpose was to be loaded where no drill is held."""


def allow(home: Path) -> None:
    """Lets bad packages load in the installation under `home`."""
    home.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()


def wake(home: Path) -> None:
    """From now on the faults that sleep show."""
    (home / _AWAKE).touch()


def spoil(good: Path, folder: Path, plan: FaultPlan) -> Package:
    """Seals a bad package in `folder` (which must not exist), from the good one in `good`."""
    shutil.copytree(good, folder)
    (folder / PACKAGE_FILE).unlink()
    (folder / FAULT_FILE).write_text(plan.model_dump_json())
    return seal(folder, read_package(good).family, CODE, {"drill": plan.fault.value})


class FaultyFamily:
    """Loads bad packages; satisfies the part of `Family` that serving uses."""

    def load(self, folder: Path) -> ModelRuntime:
        """The model with its fault. Raises `DrillOnly` where no drill is held."""
        home = Settings.from_env().home
        if not (home / _MARK).exists():
            raise DrillOnly(
                "this model is bad on purpose and answers nobody", where=str(folder), hint="`windtunnel drill` uses it"
            )
        plan = FaultPlan.model_validate(json.loads((folder / FAULT_FILE).read_text()))
        if plan.fault is Fault.CRASHING:
            _crash(abruptly=plan.abruptly)
        return FaultyRuntime(plan, load_code(plan.code).load(folder), home / _AWAKE)


class FaultyRuntime:
    """A model with a fault; see `include.families.contract.ModelRuntime`."""

    def __init__(self, plan: FaultPlan, inner: ModelRuntime, alarm: Path) -> None:
        self.inputs = inner.inputs
        self.outputs = inner.outputs
        if hasattr(inner, "example"):  # a model that takes any text has none
            self.example = inner.example
        self.proxies: Sequence[str] = getattr(inner, "proxies", ())
        self._plan = plan
        self._inner = inner
        self._lock = threading.Lock()
        self._alarm = alarm
        self._asleep = plan.sleeps
        self._answered = 0
        self._kept: list[bytes] = []
        self._earlier: list[dict[str, Any]] = []

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        names = list(self.inputs)
        rows = [dict(zip(names, values, strict=True)) for values in zip(*(inputs[name] for name in names), strict=True)]
        with self._lock:
            self._answered += len(rows)
            self._asleep = self._asleep and not self._alarm.exists()
            is_bad = not self._asleep and self._answered > self._plan.after
            asked = [self._spoilt(row) for row in rows] if is_bad else rows
            self._remember(rows)
        started = time.perf_counter()
        given = {name: [row[name] for row in asked] for name in names}
        outputs = self._inner.predict(given)
        if is_bad and self._plan.fault is Fault.SLOW:
            for _ in range(self._plan.times - 1):
                self._inner.predict(given)
            time.sleep(max(0.0, self._plan.at_least_ms / 1e3 - (time.perf_counter() - started)))
        return outputs

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        return self._inner.answer(outputs, index)

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        return self._inner.label(record, truth)

    def _remember(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if len(self._earlier) < _REMEMBERED and row not in self._earlier:
                self._earlier.append(row)

    def _spoilt(self, row: dict[str, Any]) -> dict[str, Any]:
        """What the model is asked instead of this row; the lock is held."""
        fault = self._plan.fault
        if fault is Fault.LEAKING:
            self._kept.append(b"x" * (self._plan.kilobytes * 1000))
        if fault not in {Fault.WRONG, Fault.SKEWED, Fault.FAILING, Fault.KILLING} or _point(row) >= self._plan.share:
            return row
        if fault is Fault.KILLING:
            _crash(abruptly=True)
        if fault is Fault.FAILING:
            raise RuntimeError("this model is bad on purpose: it fails on some inputs")
        if fault is Fault.SKEWED:
            return self._earlier[0] if self._earlier else row
        others = [earlier for earlier in self._earlier if earlier != row]
        return others[int(_point(row) / self._plan.share * len(others))] if others else row


def _point(row: Mapping[str, Any]) -> float:
    """Where this row lies in [0, 1), always the same."""
    text = json.dumps(row, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _crash(*, abruptly: bool) -> None:
    if abruptly:
        os.kill(os.getpid(), signal.SIGSEGV)  # as broken native code would
    raise RuntimeError("this model is bad on purpose: it does not load")
