"""The rollout: one candidate, from its first shadow request to champion, or back.

Every function can be repeated, and continues where the ledger stands: a rollout is known by its candidate and the run
that asked for it, and every change of traffic is a compare-and-swap on the routing table. Order matters: traffic moves
first, then the ledger tells of it, then the gateway is waited for. A process that dies in between finds the routing
table as it left it, and adds what is missing.

During a rollout the champion stays champion, and the challenger has the stage's share, or works in the shadow. Where
nothing served before, and no baseline is named, the candidate answers everything at every stage.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.data.recalls import refuse_recalled
from include.release import gateway
from include.release.beginning import begin
from include.release.budget import is_live
from include.release.control import Said
from include.release.ledger import Event
from include.release.moves import TRIES, show_in_mlflow, swap
from include.release.registry import find_version
from include.release.rollback import all_to
from include.release.state import (
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
from include.release.takedown import take_down
from include.settings import Settings
from include.spec.models import FamilySpec
from include.store.database import open_database

__all__ = ["begin", "enter_stage", "promote", "roll_back"]

_Record = dict[str, Any]


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
        route = swap(ledger, spec.family, state.replaceable(route), state.table(wanted), reason, actor, at)
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
            route = swap(ledger, spec.family, route.generation, table, reason, actor, at)
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
    return {"champion": state.version, **record, "registry": show_in_mlflow(settings, spec.family)}


def roll_back(settings: Settings, spec: FamilySpec, rollout: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Takes the candidate's traffic away, once, whatever the rollout had reached. See `takedown.take_down`."""
    return take_down(settings, spec.family, rollout, reason=reason, actor=actor, at=at)


def _begin_stage(state: Rollout, stage: str, actor: str, at: datetime) -> str | None:
    """Takes the stage's place in what was said; why it is held where a pause came before, else None."""
    for _ in range(TRIES):
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


def _refuse_recalled(settings: Settings, state: Rollout) -> None:
    engine = open_database(settings.database_url)
    refuse_recalled(settings, state.family, *find_version(engine, state.family, state.version).data)
