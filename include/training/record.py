"""What is known about a training so far, and the file that tells the tracker; the same for every framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
