"""Six kinds of bad candidate, each a real package, through the real engine and a real gateway, under traffic.

Opt-in, because each takes up to a minute: `WINDTUNNEL_PROOFS=1 pytest -s tests/release/test_bad_candidates.py` prints
where each was stopped, and how long finding it and taking it back took.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from include.release.drill.faults import Fault, FaultPlan
from include.release.drill.hold import LOAD_CHECK, hold
from tests.fakes.tiny_family import CODE
from tests.release.test_drill import Production, production

__all__ = ["production"]  # a fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("WINDTUNNEL_PROOFS"), reason="set WINDTUNNEL_PROOFS=1"),
]
LIVE = {"canary", "half", "full"}


def proved(production: Production, plan: FaultPlan, *, labelled: float = 1.0, **rails: Any) -> dict[str, Any]:
    """Releases the bad model; users give feedback on a share of its answers."""
    spec = production.spec(**rails)
    drill = spec.release.drill.model_copy(update={"rate": 80.0, "stage_seconds": 40.0, "labelled": labelled})
    spec = spec.model_copy(update={"release": spec.release.model_copy(update={"drill": drill})})
    asked = production.examples
    found = hold(production.settings, spec, plan.fault, asked, name="proof", live=plan.sleeps, plan=plan)
    print(json.dumps({name: value for name, value in found.items() if name not in ("plan", "drill")}))
    assert found["outcome"] == "stopped"
    return found


@pytest.mark.parametrize("sleeps", [False, True])
def test_errors_on_one_request_in_ten(production: Production, sleeps: bool) -> None:
    found = proved(production, FaultPlan(fault=Fault.FAILING, code=CODE, share=0.1, after=100, sleeps=sleeps))
    assert found["stopped_at"] in (LIVE if sleeps else {LOAD_CHECK, "shadow"})
    assert found["failed"] <= 0.05 * found["asked"]


@pytest.mark.parametrize("sleeps", [False, True])
def test_three_times_as_slow(production: Production, sleeps: bool) -> None:
    plan = FaultPlan(fault=Fault.SLOW, code=CODE, at_least_ms=300, after=100, sleeps=sleeps)
    found = proved(production, plan, latency_floor_ms=100)
    assert found["stopped_at"] in (LIVE if sleeps else {"shadow", *LIVE})  # beside a champion that is slow as well
    assert found["failed"] == 0


@pytest.mark.parametrize("labelled", [0.05, 1.0])
def test_five_points_worse(production: Production, labelled: float) -> None:
    """With few labels it ends INCONCLUSIVE, and that does not ship either."""
    plan = FaultPlan(fault=Fault.WRONG, code=CODE, share=0.055, after=100)
    found = proved(production, plan, labelled=labelled, max_quality_drop=0.02, quality_proof="certain")
    assert found["stopped_at"] == "shadow"
    assert found["verdict"] in {"INCONCLUSIVE", "FAIL"}
    assert found["by_candidate"] == 0


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_memory_leak(production: Production, sleeps: bool) -> None:
    plan = FaultPlan(fault=Fault.LEAKING, code=CODE, kilobytes=2000, after=100, sleeps=sleeps)
    found = proved(production, plan, max_memory_growth_mb=60, latency_floor_ms=5000)
    assert found["stopped_at"] in (LIVE if sleeps else {LOAD_CHECK})
    assert "memory: the gateway grew" in found["why"] if sleeps else "its process grew" in found["why"]


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_crash_on_one_request_in_fifty(production: Production, sleeps: bool) -> None:
    found = proved(production, FaultPlan(fault=Fault.KILLING, code=CODE, share=0.02, after=100, sleeps=sleeps))
    assert found["stopped_at"] in (LIVE if sleeps else {LOAD_CHECK, "shadow"})
    assert "gateway processes died" in found["why"] or found["stopped_at"] == LOAD_CHECK


@pytest.mark.parametrize("abruptly", [False, True])
def test_a_crash_on_load(production: Production, abruptly: bool) -> None:
    found = proved(production, FaultPlan(fault=Fault.CRASHING, code=CODE, abruptly=abruptly))
    assert (found["stopped_at"], found["by_candidate"], found["failed"]) == (LOAD_CHECK, 0, 0)
