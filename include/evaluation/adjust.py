"""What to change before a candidate that did not pass is trained again. Pure.

The answer is a small record of changes to the sweep, by these keys (all optional; the sweep applies them to its space):

* `lr_scale`: factor on both ends of the learning rate's range;
* `epochs_delta`: epochs added to every trial and to the final fit;
* `trials_delta`: trials added to the study;
* `examples_scale`: factor on the number of training examples, where the spec limits it.

Which way to go is read off the comparison with the model before training, where there is one: a candidate that is worse
than that was trained too hard, one that is better was not trained enough. Later attempts go further the same way. Gates
that no training changes (size, speed, memory) are not worth another run.
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
) -> dict[str, float | int] | None:
    """Changes for attempt `attempt + 1`, or None when there is no use or no attempt left.

    Args:
        gates: Gate records of `include.evaluation.gates.decide`.
        comparisons: Reference -> metric -> paired difference record, as `evaluate` returns them.
        attempt: The attempt that was just judged, from 1.
    """
    blocking = [gate for gate in gates if gate["blocks"]]
    trainable = [gate for gate in blocking if gate["metric"] not in COST_METRICS]
    if attempt >= max_attempts or not trainable or len(trainable) < len(blocking):
        return None
    if all(gate["verdict"] == Verdict.INCONCLUSIVE.value for gate in trainable):
        return {"examples_scale": 2.0**attempt, "epochs_delta": attempt, "trials_delta": 2 * attempt}
    untrained = comparisons.get(UNTRAINED, {})
    changes = [untrained[gate["metric"]]["difference"] for gate in trainable if gate["metric"] in untrained]
    if changes and min(changes) < 0.0:
        return {"lr_scale": 0.5**attempt, "trials_delta": 2 * attempt}
    return {
        "lr_scale": 1.5**attempt,
        "epochs_delta": attempt,
        "trials_delta": 2 * attempt,
        "examples_scale": 2.0**attempt,
    }
