"""What a drill is: which model is released, how bad it is, and through which stages. Pure.

The guardrails are the family's own, for it is them that the drill tries. Its stages are short, and the fault is large
enough that by these guardrails it must be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from include.release.drill.faults import Fault, FaultPlan
from include.spec.models import FamilySpec
from include.spec.rollout import ReleaseSpec, StageSpec

#: Faults in the order in which a family's drills take turns.
TURNS = (Fault.SLOW, Fault.WRONG, Fault.CRASHING, Fault.SKEWED, Fault.FAILING, Fault.LEAKING, Fault.KILLING)
#: Rows that a model answers while it is loaded and warmed up: a fault must not show there.
WARM_ROWS = 100
#: How far beyond a limit a fault goes, so that finding it is no matter of luck.
_BEYOND = 3.0
_LEAK_REQUESTS = 40


def next_fault(done: Sequence[str]) -> Fault:
    """The fault whose turn it is.

    Args:
        done: Faults of the family's drills so far, the newest first.
    """
    tried = [fault for fault in done if fault in set(TURNS)]
    return TURNS[(TURNS.index(Fault(tried[0])) + 1) % len(TURNS)] if tried else TURNS[0]


def fault_plan(spec: FamilySpec, fault: Fault, *, code: str, latency_ms: float, live: bool) -> FaultPlan:
    """A fault that the family's guardrails must find.

    Args:
        code: What loads the champion's package.
        latency_ms: The champion's p95.
        live: The fault sleeps until the candidate answers somebody.
    """
    rails = spec.release.guardrails
    slow = _BEYOND * max(rails.latency_floor_ms, rails.max_latency_ratio * latency_ms)
    share = max(0.5, min(1.0, _BEYOND * rails.max_quality_drop))
    leak_mb = _BEYOND * (rails.max_memory_growth_mb or 500.0) / _LEAK_REQUESTS
    return FaultPlan(
        fault=fault,
        code=code,
        after=WARM_ROWS,
        sleeps=live,
        share=share,
        at_least_ms=slow,
        kilobytes=max(1, round(1000 * leak_mb)),
    )


def drill_release(spec: FamilySpec) -> ReleaseSpec:
    """The family's guardrails over short stages with few requests; nobody is asked."""
    quick = {"min_seconds": 1.0, "max_seconds": spec.release.drill.stage_seconds, "min_labels": 20}
    stages = [
        StageSpec(name="shadow", traffic=0.0, shadow=True, min_requests=60, **quick),
        StageSpec(name="canary", traffic=0.2, min_requests=60, **quick),
        StageSpec(name="half", traffic=0.5, min_requests=60, **quick),
        StageSpec(name="full", traffic=1.0, min_requests=60, **quick),
    ]
    changes = {"stages": stages, "approval": False, "bootstrap": None, "load_check_seconds": 1.0}
    return spec.release.model_copy(update=changes)


def summary(record: Mapping[str, object]) -> str:
    """A drill's record in a sentence."""
    if record["outcome"] != "stopped":
        return f"{record['fault']} model MISSED: {record['why']}"
    return (
        f"{record['fault']} model stopped at {record['stopped_at']}, found after {record['detect_seconds']:.1f} s, "
        f"traffic back after {record['recover_seconds']:.1f} s, {record['failed']} of {record['asked']} requests failed"
    )
