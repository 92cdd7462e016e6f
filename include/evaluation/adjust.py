"""What to change before a candidate that did not pass is trained again. Pure.

The answer is a small record of changes to the sweep, by these keys (all optional; the sweep applies them to its space):

* `lr_scale`: factor on both ends of the learning rate's range;
* `epochs_delta`: epochs added to every trial and to the final fit;
* `trials_delta`: trials added to the study;
* `examples_scale`: factor on the number of training examples, where the spec limits it.

Which way to go is read off the comparison with the model before training, where there is one: a candidate that is worse
than that was trained too hard, one that is better was not trained enough. The next round goes on from what this one
had: further the same way, or, where it overshot, part of the way back. Gates that no training changes (size, speed,
memory) are not worth another run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from include.evaluation.gates import Verdict

#: Metrics of the serving runtime: the same architecture has the same cost, however it was trained.
COST_METRICS = frozenset({"latency_p50_ms", "latency_p95_ms", "throughput_per_second", "memory_mb", "package_mb"})
ADJUST_KEYS = frozenset({"lr_scale", "epochs_delta", "trials_delta", "examples_scale"})
UNTRAINED = "zero_shot"


def adjust(
    gates: Sequence[Mapping[str, Any]],
    comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]],
    attempt: int,
    max_attempts: int,
    *,
    before: Mapping[str, float] | None = None,
    signs: Mapping[str, int] | None = None,
) -> dict[str, float | int] | None:
    """Changes for attempt `attempt + 1`, or None when there is no use or no attempt left.

    Args:
        gates: Gate records of `include.evaluation.gates.decide`.
        comparisons: Reference -> metric -> paired difference record, as `evaluate` returns them.
        attempt: The attempt that was just judged, from 1.
        before: The changes that it was made with; None where that is not known, and they are what the same answer
            would have given every time.
        signs: Gate -> 1 where it asks for much of its metric, -1 where it asks for little (of an error, say), so that a
            negative difference is a gain; 0 where it asks for neither. 1 where nothing is said.
    """
    blocking = [gate for gate in gates if gate["blocks"]]
    trainable = [gate for gate in blocking if gate["metric"] not in COST_METRICS]
    if attempt >= max_attempts or not trainable or len(trainable) < len(blocking):
        return None
    untrained = comparisons.get(UNTRAINED, {})
    signs = signs or {}
    gains = [
        signs.get(gate["name"], 1) * untrained[gate["metric"]]["difference"]
        for gate in trainable
        if gate["metric"] in untrained
    ]
    if all(gate["verdict"] == Verdict.INCONCLUSIVE.value for gate in trainable):
        step: dict[str, float | int] = {"examples_scale": 2.0, "epochs_delta": 1, "trials_delta": 2}
    elif any(gain < 0.0 for gain in gains):
        step = {"lr_scale": 0.5, "trials_delta": 2}
    else:
        step = {"lr_scale": 1.5, "epochs_delta": 1, "trials_delta": 2, "examples_scale": 2.0}
    if before is None:
        return {name: _times(name, value, attempt) for name, value in step.items()}
    return {name: _after(name, before.get(name), step.get(name)) for name in sorted({*before, *step})}


def _times(name: str, value: float, attempt: int) -> float | int:
    return value * attempt if name.endswith("_delta") else value**attempt


def _after(name: str, before: float | None, step: float | None) -> float | int:
    if name.endswith("_delta"):
        return int(before or 0) + int(step or 0)
    return (1.0 if before is None else before) * (1.0 if step is None else step)
