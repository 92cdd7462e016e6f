"""The verdict on a stage: what the gateway saw goes into a stored decision, and the final one into the ledger, once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.release.budget import is_live, planned_requests
from include.release.control import PROMOTION, Control, Said
from include.release.decisions import decide
from include.release.evidence import StageInput
from include.release.ledger import Entry, Event, Route
from include.release.observation import observe
from include.release.rollout import StageVerdict
from include.release.rollout import decide as judge_stage
from include.release.state import ENTERED, JUDGED, ReleaseError, Rollout, find_stage, open_ledger, stale
from include.settings import Settings
from include.spec.models import FamilySpec
from include.spec.rollout import ReleaseSpec, StageSpec
from include.steps.fingerprint import code_version
from include.store.database import open_database

_Record = dict[str, Any]


def judge(settings: Settings, spec: FamilySpec, rollout: str, stage: str, *, at: datetime) -> _Record:
    """The verdict on a stage by what the gateway saw so far; final verdicts are recorded once and stay.

    Returns:
        `verdict`, `wait` (True: not final, ask again later), `why` (sentences), `observed` ({seconds, candidate,
        champion}), `budget` (of `budget.balance`; None where the spec names none).

    Raises:
        ReleaseError: The stage was not entered.
    """
    ledger, wanted = open_ledger(settings), find_stage(spec.release, stage, spec.family)
    state = Rollout.read(ledger, spec.family, rollout)
    if (judged := state.entry(JUDGED, stage)) is not None:
        return _verdict_of(judged)
    entered = state.entry(ENTERED, stage)
    if entered is None:
        raise ReleaseError(f"stage {stage} of rollout {rollout} was not entered", hint="enter it first")
    route = ledger.route(spec.family)
    if route is None or not state.is_at(route, stage):
        return _taken_over(state, wanted, entered, route, at)
    control = state.control()
    given = stage_input(settings, spec.release, state, wanted, route, at, control)
    outcome = judge_stage(given)
    passed = outcome["verdict"] == StageVerdict.PASS.value
    if passed and stage == state.stages[-1] and not _begin_promotion(state, control, at):
        outcome = {**outcome, "verdict": StageVerdict.INCONCLUSIVE.value, "wait": True}  # look at what was said first
    if outcome["wait"]:
        observed = {name: given[name] for name in ("seconds", "candidate", "champion")}
        return {"budget": None, **outcome, "observed": observed}
    return _final(settings, state, wanted, route.generation, given, at)


def judge_held(settings: Settings, spec: FamilySpec, rollout: str, stage: str, *, at: datetime) -> _Record:
    """What becomes of `stage` while a pause keeps it from beginning; the stage before goes on being watched.

    Returns:
        As `judge`; the verdict FAIL where the candidate does badly in the stage before. `again` (True) where `stage` is
        to be entered now, or the rollout has ended.
    """
    ledger, wanted = open_ledger(settings), find_stage(spec.release, stage, spec.family)
    state = Rollout.read(ledger, spec.family, rollout)
    if (judged := state.entry(JUDGED, stage)) is not None:
        return _verdict_of(judged)
    control, route = state.control(), ledger.route(spec.family)
    paused = control.paused
    if paused is None or state.ended() is not None:
        return {"verdict": StageVerdict.INCONCLUSIVE.value, "wait": False, "again": True, "why": []}
    held = {
        "verdict": StageVerdict.INCONCLUSIVE.value,
        "wait": True,
        "why": [f"paused by {paused.actor}: {paused.reason}"],
    }
    if route is None or not state.owns(route) or not route.table.stage:
        return held
    here = find_stage(spec.release, route.table.stage, spec.family)
    given = stage_input(settings, spec.release, state, here, route, at, control)
    if judge_stage(given)["verdict"] != StageVerdict.FAIL.value:
        return held
    return _final(settings, state, wanted, route.generation, given, at)


def stage_input(
    settings: Settings,
    release: ReleaseSpec,
    state: Rollout,
    stage: StageSpec,
    route: Route,
    at: datetime,
    control: Control,
) -> _Record:
    """The `StageInput` of a stage whose traffic `route` is, and about which people said `control`."""
    alone = state.champion is None
    earlier = [record for record in state.judged() if record["stage"] != stage.name]
    seen = observe(settings, state.family, route, stage, earlier)
    account = {
        **seen.pop("account"),
        "planned": planned_requests(release.stages, alone=alone),
        "live": is_live(stage.model_dump(), alone=alone),
    }
    return StageInput(
        stage=stage,
        guardrails=release.guardrails,
        seconds=max(0.0, (at - route.at).total_seconds()),
        account=account,
        proven_in=next((record["stage"] for record in earlier if record.get("proven")), ""),
        paused=control.paused,
        paused_seconds=control.paused_seconds(route.at, at),
        waved_on=control.waved.get(stage.name),
        **seen,
    ).model_dump(mode="json")


def _final(
    settings: Settings, state: Rollout, stage: StageSpec, generation: int, given: _Record, at: datetime
) -> _Record:
    """Stores the decision, and records its verdict."""
    engine = open_database(settings.database_url)
    decision = decide(engine, state.family, "stage", given, code_version=code_version(), at=at)
    record = {
        **_stage_record(state, stage, generation, given["seconds"]),
        **given["candidate"],
        "champion": given["champion"],
        "paired": given["paired"],
        "verdict": decision.output["verdict"],
        "why": decision.output["why"],
        "budget": decision.output.get("budget"),
        "proven": decision.output.get("proven"),
        "memory": given["memory"],
        "by": decision.output.get("by"),
        "decision": decision.id,
    }
    return _record_verdict(state, record, at)


def _begin_promotion(state: Rollout, control: Control, at: datetime) -> bool:
    """The last stage is passed: no pause comes before the promotion any more. False where somebody spoke just now."""
    if PROMOTION in control.begun:
        return True
    return state.say(control, Said.BEGUN, "every stage was passed", state.begun.actor, at, stages=[PROMOTION])


def _taken_over(state: Rollout, stage: StageSpec, entered: Entry, route: Route | None, at: datetime) -> _Record:
    """The traffic is not this stage's any more: it cannot be judged."""
    ended = state.ended()
    record = {
        **_stage_record(state, stage, entered.record["generation"], max(0.0, (at - entered.at).total_seconds())),
        "requests": 0,
        "errors": 0,
        "labels": 0,
        "quality": {},
        "champion": None,
        "verdict": StageVerdict.INCONCLUSIVE.value,
        "why": [f"the rollout has ended ({ended})" if ended else stale(state.family, route).message],
    }
    return _record_verdict(state, record, at)


def _stage_record(state: Rollout, stage: StageSpec, generation: int, seconds: float) -> _Record:
    return {
        "rollout": state.id,
        "stage": stage.name,
        "traffic": stage.traffic,
        "shadow": stage.shadow,
        "generation": generation,
        "seconds": round(seconds, 3),
    }


def _record_verdict(state: Rollout, record: _Record, at: datetime) -> _Record:
    """Records the verdict; where another judge was faster, its verdict holds."""
    state.append(Event.STAGE_JUDGED, state.key(JUDGED, record["stage"]), record, state.begun.actor, at)
    judged = state.entry(JUDGED, record["stage"])
    return _verdict_of(judged) if judged else {}


def _verdict_of(judged: Entry) -> _Record:
    record = judged.record
    names = ("requests", "errors", "latency_p50_ms", "latency_p95_ms", "labels", "quality")
    return {
        "verdict": record["verdict"],
        "wait": False,
        "why": list(record["why"]),
        "budget": record.get("budget"),
        "observed": {
            "seconds": record["seconds"],
            "candidate": {name: record.get(name) for name in names},
            "champion": record["champion"],
        },
    }
