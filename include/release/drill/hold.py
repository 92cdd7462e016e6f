"""Holds a drill: a bad model goes through the real release engine and a real gateway, under traffic.

It is released to a target of its own (`include.release.drill.target`), where a copy of production's champion serves.
What is measured: where it was stopped, how long that took from the moment that the stage which found it was entered,
how long until the gateway had the champion alone again, and what clients met meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.errors import UserError
from include.release import engine, gateway, judging
from include.release.drill.faults import Fault, FaultPlan, spoil, wake
from include.release.drill.plan import drill_release, fault_plan
from include.release.drill.target import DrillError, register_bad, serve_copy, target
from include.release.gateway import GatewayError
from include.release.ledger import Ledger
from include.release.load_check import LoadCheckFailed
from include.release.rollout import StageVerdict
from include.release.routing import Variant
from include.serving.package import read_package
from include.serving.traffic import Example, Plan, Summary, replay
from include.settings import Settings
from include.spec.models import FamilySpec
from include.spec.rollout import StageSpec
from include.store.database import open_database

#: The bad model's version at the target; production never gives it.
BAD = "999.0.0"
LOAD_CHECK = "load check"
_POLL_SECONDS = 0.2
_WARM_SECONDS, _WARM_REQUESTS = 120.0, 20
_UNITS = 200

_Record = dict[str, Any]
_Clock = Callable[[], datetime]


def hold(
    settings: Settings,
    spec: FamilySpec,
    fault: Fault,
    examples: Sequence[Example],
    *,
    name: str,
    live: bool = False,
    plan: FaultPlan | None = None,
    now: _Clock = lambda: datetime.now(UTC),
) -> _Record:
    """Releases a bad model and tells what became of it; production is left as it is.

    Args:
        examples: Labelled requests that users send.
        name: Identifies the drill; a second drill of a name clears away what the first left.
        live: The fault shows only once the model answers users; finding it is timed from then.
        plan: How bad the model is; None: by the family's guardrails.

    Returns:
        `fault`, `live`, `plan`, `champion` (version), `outcome` ("stopped", "missed"), `stopped_at` ("load check" or a
        stage), `verdict`, `why`, `detect_seconds`, `recover_seconds` (None where missed), `seconds` (of the rollout),
        `asked`, `failed` and `by_candidate` (requests of clients: all, failed, answered by the bad model).

    Raises:
        UserError: Nothing serves in production, so that there is no model to spoil.
        DrillError: The target did not work; that says nothing about the guardrails.
    """
    route = Ledger(open_database(settings.database_url)).route(spec.family)
    if route is None:
        raise UserError(f"nothing serves in {spec.family}: a drill needs a champion", hint="release a candidate first")
    champion = route.table.champion
    drill_spec = spec.model_copy(update={"release": drill_release(spec)})
    with target(settings, name) as here:
        good = serve_copy(settings, here, champion, spec.family, at=now())
        gateway.wait_for_generation(here, spec.family, 1)
        with _users(here, drill_spec, examples) as traffic:
            plan = plan or _plan(here, spec, fault, good, live=live)
            folder = here.home / "bad"
            spoil(good, folder, plan)
            register_bad(here, spec.family, BAD, folder, at=now())
            found = _release(here, drill_spec, champion, now)
        seen = traffic()
    return {
        "drill": name,
        "fault": plan.fault.value,
        "live": live,
        "plan": plan.model_dump(mode="json"),
        "champion": champion.version,
        **found,
        "asked": seen.sent,
        "failed": seen.failed,
        "by_candidate": seen.versions[BAD],
    }


def _plan(here: Settings, spec: FamilySpec, fault: Fault, good: Path, *, live: bool) -> FaultPlan:
    """How bad the model is to be, once users have met the champion: a slow model is slow beside it."""
    deadline = time.monotonic() + _WARM_SECONDS
    while (seen := gateway.stats(here, spec.family, 1)["variants"]["champion"])["requests"] < _WARM_REQUESTS:
        if time.monotonic() > deadline:
            raise DrillError(
                f"the champion answered {seen['requests']} requests in {_WARM_SECONDS:g} s", where=here.gateway_url
            )
        time.sleep(_POLL_SECONDS)
    latency = seen["latency_p95_ms"] or 0.0
    return fault_plan(spec, fault, code=read_package(good).code, latency_ms=latency, live=live)


def _release(here: Settings, spec: FamilySpec, champion: Variant, now: _Clock) -> _Record:
    """The rollout as the release DAG runs it, up to the promotion: that a bad model must not come so far."""
    began = entered = time.monotonic()
    try:
        begun = engine.begin(here, spec, BAD, run="drill", actor="drill", at=now())
    except LoadCheckFailed as error:
        found = time.monotonic()
        _check_champion(here, spec.family, champion)
        return _stopped(LOAD_CHECK, StageVerdict.FAIL.value, error.message, began, began, found)
    rollout, last = str(begun["rollout"]), ""
    for stage in spec.release.stages:
        entered = time.monotonic()
        verdict, last = _fly(here, spec, rollout, stage, now)
        if verdict != StageVerdict.PASS.value:
            found = time.monotonic()
            engine.roll_back(here, spec, rollout, reason=last, actor="drill", at=now())
            _check_champion(here, spec.family, champion)
            return _stopped(stage.name, verdict, last, began, entered, found)
    engine.roll_back(here, spec, rollout, reason="the drill ends", actor="drill", at=now())
    nothing: _Record = {"stopped_at": None, "verdict": StageVerdict.PASS.value, "detect_seconds": None}
    seconds = round(time.monotonic() - began, 3)
    return {"outcome": "missed", **nothing, "recover_seconds": None, "seconds": seconds, "why": f"it passed: {last}"}


def _fly(
    here: Settings, spec: FamilySpec, rollout: str, stage: StageSpec, now: Callable[[], datetime]
) -> tuple[str, str]:
    """A stage's verdict and why. A fault that slept wakes with the first traffic."""
    try:
        engine.enter_stage(here, spec, rollout, stage.name, actor="drill", at=now())
    except GatewayError as error:  # the gateway keeps what it has where it cannot load the candidate
        return StageVerdict.FAIL.value, error.message
    if stage.traffic > 0:
        wake(here.home)
    while (found := judging.judge(here, spec, rollout, stage.name, at=now()))["wait"]:
        time.sleep(_POLL_SECONDS)
    return str(found["verdict"]), str(found["why"][0])


def _stopped(stage: str, verdict: str, why: str, began: float, entered: float, found: float) -> _Record:
    end = time.monotonic()
    return {
        "outcome": "stopped",
        "stopped_at": stage,
        "verdict": verdict,
        "why": why,
        "detect_seconds": round(found - entered, 3),
        "recover_seconds": round(end - found, 3),
        "seconds": round(end - began, 3),
    }


def _check_champion(here: Settings, family: str, champion: Variant) -> None:
    """Raises `DrillError` unless the gateway answers with what served before, alone."""
    route = Ledger(open_database(here.database_url)).route(family)
    if route is None or [item.digest for item in route.table.variants] != [champion.digest]:
        raise DrillError(f"the drill did not end where it began: {route}")
    gateway.wait_for_generation(here, family, route.generation, table=route.table)


@contextmanager
def _users(here: Settings, spec: FamilySpec, examples: Sequence[Example]) -> Iterator[Callable[[], Summary]]:
    """Traffic while the block runs; afterwards the function tells what it met."""
    drill = spec.release.drill
    plan = Plan(gateway=here.gateway_url, family=spec.family, rate=drill.rate, feedback=drill.labelled, units=_UNITS)
    loop, stop, done = asyncio.new_event_loop(), asyncio.Event(), list[Summary]()
    thread = threading.Thread(target=lambda: done.append(loop.run_until_complete(replay(plan, examples, stop))))
    thread.start()

    def told() -> Summary:
        if not done:
            raise DrillError("the drill's traffic broke down", where=here.gateway_url)
        return done[0]

    try:
        yield told
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
