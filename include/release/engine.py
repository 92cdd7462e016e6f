"""The rollout: one candidate, from its first shadow request to champion, or back.

Every function can be repeated, and continues where the ledger stands: a rollout is known by its candidate and the run
that asked for it, and every change of traffic is a compare-and-swap on the routing table. Order matters: traffic moves
first, then the ledger tells of it, then the gateway is waited for. A process that dies in between finds the routing
table as it left it, and adds what is missing.

During a rollout the champion stays champion, and the challenger has the stage's share, or works in the shadow. Where
nothing served before, and no baseline is named, the candidate answers everything at every stage.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from include.data.recalls import refuse_recalled
from include.evaluation.gates import Verdict
from include.release import gateway
from include.release.bootstrap import bootstrap
from include.release.budget import is_live
from include.release.control import Said
from include.release.ledger import Event, Ledger, Route, StaleRoute
from include.release.packages import verify_stored
from include.release.registry import ModelVersion, find_version, sync_aliases
from include.release.rollback import all_to, first_that_loads, served_fully
from include.release.routing import RoutingTable
from include.release.state import (
    BEGUN,
    ENTERED,
    JUDGED,
    PROMOTED,
    ROLLED_BACK,
    ReleaseError,
    Rollout,
    find_stage,
    open_ledger,
    stale,
)
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.fingerprint import fingerprint
from include.store.database import open_database

log = logging.getLogger(__name__)

_SWAP_TRIES = 5
_Record = dict[str, Any]


def begin(settings: Settings, spec: FamilySpec, model_version: str, *, run: str, actor: str, at: datetime) -> _Record:
    """Starts a rollout, or finds the one that this `run` started.

    Returns:
        `rollout` (its id), `candidate` and `champion` ({version, digest}; champion None where nothing serves), `stages`
        (names), and `skip`: why there is nothing to do, else None.

    Raises:
        UserError: The version is unknown.
        ReleaseError: Another rollout is under way.
        DataError: The data that it was trained on was recalled.
        PackageError: The candidate's package is missing or altered.
    """
    ledger = open_ledger(settings)
    rollout = f"{model_version}-{fingerprint(family=spec.family, run=run, version=model_version)[:10]}"
    candidate = find_version(open_database(settings.database_url), spec.family, model_version)
    if ledger.entry(spec.family, f"{BEGUN}:{rollout}") is not None:
        begun = Rollout.read(ledger, spec.family, rollout)
        ended = begun.ended()
        return _shown(begun, f"this rollout has ended ({ended}); start a new release" if ended else None)
    stages = [stage.name for stage in spec.release.stages]
    identity = {"version": candidate.version, "digest": candidate.digest}
    record: _Record = {"rollout": rollout, "run": run, "candidate": identity, "champion": None, "stages": stages}
    record["plan"] = spec.release.model_dump(mode="json")
    skip = _why_not(ledger, candidate)
    if skip is not None:
        return {**record, "skip": skip}
    _refuse_second_rollout(ledger, spec.family)
    refuse_recalled(settings, spec.family, *candidate.data)
    verify_stored(settings, spec.family, candidate.digest)
    route = bootstrap(settings, spec, candidate, actor=actor, at=at)
    if route is not None:
        record["champion"] = route.table.champion.model_dump(mode="json", exclude={"role"})
    record["generation"] = route.generation if route else 0
    ledger.append(
        spec.family,
        Event.ROLLOUT_BEGUN,
        key=f"{BEGUN}:{rollout}",
        actor=actor,
        at=at,
        model_version=candidate.version,
        record=record,
    )
    return _shown(Rollout.read(ledger, spec.family, rollout), None)


def enter_stage(settings: Settings, spec: FamilySpec, rollout: str, stage: str, *, actor: str, at: datetime) -> _Record:
    """Moves the traffic of a stage, once, and waits until the gateway serves it.

    Returns:
        `generation`, `stage`, `entered_at` (when traffic moved, ISO 8601); or `held` (why) alone, where the rollout is
        paused and nothing was moved.

    Raises:
        ReleaseError: An earlier stage was not passed, the rollout has ended, or nobody approved of live traffic.
        DataError: The data that the candidate was trained on was recalled meanwhile.
        StaleRoute: Somebody else changed the traffic since the rollout's last step.
        GatewayError: The gateway did not take over the routing table; the task can be tried again.
    """
    ledger, wanted = open_ledger(settings), find_stage(spec.release, stage, spec.family)
    state = Rollout.read(ledger, spec.family, rollout)
    if (ended := state.ended()) is not None:
        raise ReleaseError(f"rollout {rollout} has ended: {ended}", hint="start a new release of that version")
    state.check_passed(before=stage)
    _refuse_recalled(settings, state)
    if spec.release.approval and is_live(wanted.model_dump(), alone=state.champion is None):
        state.check_approved()
    entered = state.entry(ENTERED, stage)
    if state.entry(JUDGED, stage) is not None:  # done; traffic may be at a later stage by now
        if entered is None:
            return {"held": "the candidate was judged while a pause held this stage"}
        return {"generation": entered.record["generation"], "stage": stage, "entered_at": entered.at.isoformat()}
    if (held := _begin_stage(state, stage, actor, at)) is not None:
        return {"held": held}
    route = ledger.route(spec.family)
    if route is None or not state.is_at(route, stage):
        reason = f"rollout of {state.version}: stage {stage}"
        route = _swap(ledger, spec.family, state.replaceable(route), state.table(wanted), reason, actor, at)
        if (ended := state.ended()) is not None:  # at this very moment; one of the two sees the other
            take_down(settings, spec.family, rollout, reason=ended, actor=actor, at=at)
            raise ReleaseError(f"rollout {rollout} has ended: {ended}", hint="start a new release of that version")
    record = {
        "rollout": rollout,
        "stage": stage,
        "traffic": wanted.traffic,
        "shadow": wanted.shadow,
        "generation": route.generation,
    }
    state.append(Event.STAGE_ENTERED, state.key(ENTERED, stage), record, actor, route.at)
    gateway.wait_for_generation(settings, spec.family, route.generation, table=route.table)
    return {"generation": route.generation, "stage": stage, "entered_at": route.at.isoformat()}


def promote(settings: Settings, spec: FamilySpec, rollout: str, *, actor: str, at: datetime) -> _Record:
    """Makes the candidate the champion, when every stage was passed.

    Returns:
        `champion` (version), `digest`, `previous` (version or None), `generation`, `registry` (empty, or why MLflow's
        aliases could not be set: the ledger holds nevertheless).

    Raises:
        ReleaseError: A stage is missing, or the rollout was rolled back.
        DataError: The data that the candidate was trained on was recalled meanwhile.
        StaleRoute: Somebody else changed the traffic since the last stage.
        GatewayError: The gateway did not take over; the task can be tried again.
    """
    ledger = open_ledger(settings)
    state = Rollout.read(ledger, spec.family, rollout)
    if state.entry(ROLLED_BACK) is not None:
        raise ReleaseError(f"rollout {rollout} was rolled back", hint="start a new release of that version")
    state.check_passed()
    done = state.entry(PROMOTED)
    if done is None:
        _refuse_recalled(settings, state)
        route = ledger.route(spec.family)
        if route is None or not state.owns(route):
            raise stale(spec.family, route)
        if not route.table.stage and route.table.champion.version != state.version:
            raise stale(spec.family, route)  # taken back at this moment; the ledger is about to say so
        if route.table.stage:
            reason = f"rollout of {state.version}: promoted"
            table = all_to(state.candidate, rollout)
            route = _swap(ledger, spec.family, route.generation, table, reason, actor, at)
        record: _Record = {
            "rollout": rollout,
            "digest": state.candidate.digest,
            "previous": state.champion.version if state.champion else None,
            "generation": route.generation,
        }
        state.append(Event.PROMOTED, state.key(PROMOTED), record, actor, at)
    else:
        record = dict(done.record)
    gateway.wait_for_generation(settings, spec.family, record["generation"])
    return {"champion": state.version, **record, "registry": _sync(settings, spec.family)}


def roll_back(settings: Settings, spec: FamilySpec, rollout: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Takes the candidate's traffic away, once, whatever the rollout had reached. See `take_down`."""
    return take_down(settings, spec.family, rollout, reason=reason, actor=actor, at=at)


def take_down(settings: Settings, family: str, rollout: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Ends a rollout and takes its candidate's traffic away; needs no spec.

    Returns:
        `changed` (whether traffic moved), `to` (version that serves now, or None), `generation`, `reason`, `note`.

    Raises:
        GatewayError: Traffic was moved in the ledger, but the gateway did not take it over in time.
    """
    state = Rollout.read(open_ledger(settings), family, rollout)
    done = state.entry(ROLLED_BACK)
    if done is None:
        record = {"rollout": rollout, "reason": reason, **_take_back(settings, state, reason, actor, at)}
        state.append(Event.ROLLED_BACK, state.key(ROLLED_BACK), record, actor, at)
        done = state.entry(ROLLED_BACK)
    record = dict(done.record) if done else {}
    route = state.ledger.route(family)
    if route is not None and state.owns(route) and route.table.stage:  # a stage was entered at this very moment
        record.update(_take_back(settings, state, record["reason"], actor, at))
    if record["changed"]:
        gateway.wait_for_generation(settings, family, record["generation"])
    return {**record, "registry": _sync(settings, family)}


def _begin_stage(state: Rollout, stage: str, actor: str, at: datetime) -> str | None:
    """Takes the stage's place in what was said; why it is held where a pause came before, else None."""
    for _ in range(_SWAP_TRIES):
        control = state.control()
        if stage in control.begun:
            return None
        if control.paused is not None:
            return f"paused by {control.paused.actor}: {control.paused.reason}"
        if state.say(control, Said.BEGUN, f"stage {stage}", actor, at, stages=[stage]):
            return None
    raise ReleaseError(
        f"rollout {state.id} is being paused and resumed all the time", hint="the task can be tried again"
    )


def _take_back(settings: Settings, state: Rollout, reason: str, actor: str, at: datetime) -> _Record:
    for _ in range(_SWAP_TRIES):
        route = state.ledger.route(state.family)
        if route is None:
            return {"changed": False, "to": None, "generation": 0, "note": "nothing serves"}
        serving = {"to": route.table.champion.version, "generation": route.generation}
        if not state.owns(route):
            return {"changed": False, **serving, "note": f"the candidate had no traffic ({route.reason})"}
        if not route.table.stage and route.table.champion.version != state.version:
            return {"changed": True, **serving, "note": "an earlier try had moved the traffic"}
        older = state.ledger.routes_before(state.family, route.generation)
        served = served_fully(older, without=state.version, rollout=state.id)
        target, passed_over = first_that_loads(settings, state.family, served)
        if target is None:
            passed_over.append("nothing else ever served, so the candidate goes on: a person must decide")
            if not route.table.stage:
                return {"changed": False, "to": None, "generation": route.generation, "note": "; ".join(passed_over)}
        table, said = all_to(target or state.candidate, state.id), f"rolled back: {reason}"
        try:
            back = _swap(state.ledger, state.family, route.generation, table, said, actor, at)
        except StaleRoute:  # read again: if it is still this rollout's traffic, it must still go back
            continue
        to = target.version if target else None
        return {"changed": target is not None, "to": to, "generation": back.generation, "note": "; ".join(passed_over)}
    raise stale(state.family, state.ledger.route(state.family))


def _why_not(ledger: Ledger, candidate: ModelVersion) -> str | None:
    """Why this version may not fly, or need not."""
    version = candidate.version
    if candidate.verdict != Verdict.PASS.value:
        return f"{version} did not pass its gates (verdict {candidate.verdict})"
    if not candidate.releasable:
        return f"{version} was built by a backfill: it may be compared, not released"
    route = ledger.route(candidate.family)
    if route is not None and not route.table.stage and route.table.champion.version == version:
        return f"{version} is the champion already"
    return None


def _refuse_second_rollout(ledger: Ledger, family: str) -> None:
    route = ledger.route(family)
    if route is not None and route.table.arms:
        name = route.table.rollout.removeprefix("experiment-")
        raise ReleaseError(
            f"experiment {name} of {family} has the traffic",
            hint=f"`windtunnel experiment stop {family} {name} --reason ...` gives it back",
        )
    if route is not None and route.table.stage:
        raise ReleaseError(
            f"rollout {route.table.rollout} of {family} is under way, at stage {route.table.stage}",
            hint="let it end, or run its `rollback` task; `windtunnel status` shows where it stands",
            rollout=route.table.rollout,
        )


def _refuse_recalled(settings: Settings, state: Rollout) -> None:
    engine = open_database(settings.database_url)
    refuse_recalled(settings, state.family, *find_version(engine, state.family, state.version).data)


def _swap(
    ledger: Ledger, family: str, expected: int, table: RoutingTable, reason: str, actor: str, at: datetime
) -> Route:
    generation = ledger.swap_route(family, expected, table, reason=reason, actor=actor, at=at)
    return Route(generation, table, reason, actor, at)


def _shown(state: Rollout, skip: str | None) -> _Record:
    names = ("rollout", "candidate", "champion", "stages")
    return {**{name: state.begun.record[name] for name in names}, "skip": skip}


def _sync(settings: Settings, family: str) -> str:
    """Brings MLflow's aliases into step. What serves is decided by now: trouble there must not undo it."""
    try:
        sync_aliases(settings, family)
    except Exception as error:  # MLflow is a display of the ledger here; whatever it raises, traffic stays as decided
        log.warning("MLflow's aliases of %s could not be set, the next release sets them: %s", family, error)
        return f"MLflow's aliases could not be set: {error}"
    return ""
