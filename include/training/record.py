"""What is known about a training so far, and the file that tells the tracker; the same for every framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from include.errors import Diverged, UserError


@dataclass
class Record:
    """Part of every checkpoint, and at the end the training's summary.

    Attributes:
        metrics: Validation metrics of the best epoch.
        seconds, samples: Spent in training steps, and examples seen in them, over all ranks and attempts.
    """

    best_epoch: int = -1
    best_value: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    samples: int = 0
    steps: int = 0


def events_file(scratch: Path) -> Path:
    """Where rank 0 writes metrics as they come."""
    return scratch / "events.jsonl"


def wanted(metrics: Mapping[str, float], name: str) -> float:
    """The metric that decides.

    Raises:
        UserError: It is not among them.
        Diverged: It is not a finite number.
    """
    if name not in metrics:
        known = ", ".join(sorted(metrics)) or "(none)"
        raise UserError(f"validation gives no metric {name!r}; it gives {known}", where="sweep.metric")
    if not math.isfinite(metrics[name]):
        raise Diverged(f"{name} is {metrics[name]}", hint="lower the learning rate")
    return float(metrics[name])
