"""Which parts of a family's spec influence the result of which step: they are part of the step's fingerprint."""

from __future__ import annotations

SPEC_PARTS: dict[str, tuple[str, ...]] = {
    "ingest": ("data",),
    "validate": ("data",),
    "publish": ("data", "split", "quality"),
    "sweep": ("code", "split", "model", "hyperparameters", "trainer", "sweep"),
    "fit": ("code", "split", "model", "hyperparameters", "trainer"),
    "evaluate": ("code", "split", "model", "evaluation"),
    "drift": ("monitoring",),
    "drill": ("code", "release"),
}
