"""A person takes the controls of a rollout: pause, resume, abort, promote.

What is said goes into a numbered sequence of the ledger and is read by whoever moves or judges next, so that nothing is
lost when the scheduler, the worker or the triggerer dies, and nobody has to be told. Only an abort acts by itself: it
takes the traffic back at once. Of two people at the same moment one is first, and the other decides again on what holds
then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from include.errors import UserError, clip
from include.release.control import PROMOTION, Control, Said
from include.release.judging import stage_input
from include.release.ledger import ACTOR_LENGTH, Event
from include.release.rollout import StageVerdict, decide
from include.release.state import ENTERED, JUDGED, ReleaseError, Rollout, find_stage, open_ledger
from include.release.takedown import take_down
from include.settings import Settings

_TRIES = 10
_SPOKEN = frozenset({Event.PAUSED, Event.RESUMED, Event.WAVED_ON, Event.ROLLED_BACK})
_Record = dict[str, Any]


def pause(settings: Settings, family: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Holds the traffic where it is until somebody resumes. The candidate can still fail, and come down.

    Returns:
        `rollout`, `version`, `stage` (that is held, or at whose traffic it is held), `changed` (False: it was paused
        already), `paused` ({actor, reason, at}).

    Raises:
        UserError: No rollout is under way.
        ReleaseError: It is coming down, or every stage was passed.
    """

    def hold(state: Rollout, control: Control) -> bool:
        return control.paused is not None or state.say(control, Said.PAUSED, reason, actor, at)

    state, before = _speak(settings, family, hold)
    return _shown(state, changed=before.paused is None)


def resume(settings: Settings, family: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Ends a pause; the stage's time goes on where it stood. Returns and raises as `pause`."""

    def go_on(state: Rollout, control: Control) -> bool:
        return control.paused is None or state.say(control, Said.RESUMED, reason, actor, at)

    state, before = _speak(settings, family, go_on)
    return _shown(state, changed=before.paused is not None)


def promote(settings: Settings, family: str, *, full: bool, reason: str, actor: str, at: datetime) -> _Record:
    """Ends the wait for evidence in the stage that holds, where nothing fails; also ends a pause.

    The stage is judged once more before the traffic moves, and its record names the person.

    Args:
        full: Waves on the stages up to the first with all traffic as well. What fails on the way still comes down.

    Returns:
        As `pause`, with `waved_on` (names of stages).

    Raises:
        UserError: No rollout is under way.
        ReleaseError: A check fails, the gateway cannot be asked, or no stage waits for evidence.
    """
    waved: list[str] = []

    def wave(state: Rollout, control: Control) -> bool:
        stage = _stage_now(state)
        if stage is None or state.entry(JUDGED, stage) is not None:
            raise ReleaseError(
                "no stage waits for evidence at this moment",
                hint="`resume` lets a paused rollout go on" if control.paused else "the next stage is about to begin",
            )
        _check_nothing_fails(settings, state, stage, at, control)
        waved[:] = _until_full(state, stage) if full else [stage]
        return state.say(control, Said.WAVED_ON, reason, actor, at, stages=waved)

    state, _ = _speak(settings, family, wave)
    return {**_shown(state, changed=True), "waved_on": waved}


def abort(settings: Settings, family: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Ends the rollout and takes its traffic back now, whatever runs or is paused.

    Returns:
        As `include.release.takedown.take_down`, with `version`.

    Raises:
        UserError: No rollout is under way.
        GatewayError: The ledger says so, but the gateway did not follow in time.
    """
    state = _under_way(settings, family)
    done = take_down(settings, family, state.id, reason=f"aborted: {reason}", actor=actor, at=at)
    return {**done, "version": state.version}


def has_spoken(settings: Settings, family: str, actor: str) -> bool:
    """Whether `actor` (who says one thing in their life, such as a run) steered already; a repeat must not say more."""
    said = open_ledger(settings).entries(family, _SPOKEN, limit=200)
    return any(entry.actor == clip(actor, ACTOR_LENGTH) for entry in said)


def standing(settings: Settings, family: str) -> _Record | None:
    """Where the rollout under way stands, by the ledger alone; None where there is none.

    Returns:
        `rollout`, `version`, `stage`, `paused` and `waved_on` ({stage: {actor, reason, at}}), `budget` (at the last
        verdict, None before).
    """
    state = Rollout.under_way(open_ledger(settings), family)
    if state is None:
        return None
    budgets = [record["budget"] for record in state.judged() if record.get("budget")]
    waved = {stage: word.model_dump(mode="json") for stage, word in state.control().waved.items()}
    return {**_shown(state), "waved_on": waved, "budget": budgets[-1] if budgets else None}


def _speak(settings: Settings, family: str, say: Callable[[Rollout, Control], bool]) -> tuple[Rollout, Control]:
    """Says it after what holds now, again where somebody else spoke first; returns what held before."""
    for _ in range(_TRIES):
        state = _under_way(settings, family)
        control = state.control()
        _check_open(state)
        if say(state, control):
            return state, control
    raise ReleaseError(
        f"several people steer {family} at the same moment", hint="look at `windtunnel status` and say it again"
    )


def _under_way(settings: Settings, family: str) -> Rollout:
    state = Rollout.under_way(open_ledger(settings), family)
    if state is None:
        raise UserError(
            f"no rollout of {family} is under way",
            hint="`windtunnel status` shows what serves; `windtunnel rollback` takes back what was promoted",
        )
    return state


def _check_open(state: Rollout) -> None:
    """Raises `ReleaseError` where nothing is left to steer."""
    if (ended := state.ended()) is not None:
        raise ReleaseError(f"rollout {state.id} has ended: {ended}", hint="`windtunnel status` shows what serves")
    for record in state.judged():
        if record["verdict"] != StageVerdict.PASS.value:
            raise ReleaseError(
                f"stage {record['stage']} was judged {record['verdict']}: the candidate is coming down",
                hint="`abort` takes it down at once",
            )
    if PROMOTION in state.control().begun:
        raise ReleaseError(
            f"every stage of {state.id} was passed: the candidate is being promoted",
            hint="`windtunnel rollback` takes it back",
        )


def _stage_now(state: Rollout) -> str | None:
    """The last stage that was entered."""
    return next((stage for stage in reversed(state.stages) if state.entry(ENTERED, stage) is not None), None)


def _until_full(state: Rollout, stage: str) -> list[str]:
    """`stage` and those that follow, before the first with all traffic; a stage at full traffic alone."""
    stages = state.plan.stages[state.stages.index(stage) :]
    return [item.name for index, item in enumerate(stages) if index == 0 or item.traffic < 1.0]


def _check_nothing_fails(settings: Settings, state: Rollout, stage: str, at: datetime, control: Control) -> None:
    route, plan = state.ledger.route(state.family), state.plan
    if route is None or not state.is_at(route, stage):
        raise ReleaseError(f"the traffic is not that of stage {stage}", hint="`windtunnel status` shows who has it")
    given = stage_input(settings, plan, state, find_stage(plan, stage, state.family), route, at, control)
    outcome = decide(given)
    if given["unreachable"]:
        raise ReleaseError(
            f"nobody can say how the candidate does: {given['unreachable']}", hint="promote when the gateway answers"
        )
    if outcome["verdict"] == StageVerdict.FAIL.value:
        raise ReleaseError(f"the candidate fails: {outcome['why'][0]}", hint="it comes down by itself")


def _shown(state: Rollout, *, changed: bool | None = None) -> _Record:
    paused = state.control().paused
    return {
        "rollout": state.id,
        "version": state.version,
        "stage": _stage_now(state) or "",
        **({} if changed is None else {"changed": changed}),
        "paused": paused.model_dump(mode="json") if paused else None,
    }
