# ruff: noqa: TID253 - imported by steps and tasks only
"""Runs the trials of a study that several workers share: exactly as many as it wants, whatever dies in between.

Every worker asks for trials until the study has its budget. A trial counts when it finished or was pruned, or while it
runs; a trial of a worker that died is failed and its parameters are tried again. Which of two rivals may use the last
place is decided by the trial's number, which the database gives out once.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from include.errors import FINAL_KINDS, WindtunnelError
from include.training.budget import TrialFacts
from include.training.study import BUDGET, ENDED, ONLY_LISTED, STOPPED, SURPLUS, trial_facts
from include.training.study_storage import GRACE_SECONDS, POINT, RETRIES, retry_trial

WORKER = "worker"
_WAIT_SECONDS = 0.5

Objective = Callable[[Trial], float | tuple[float, float]]
Stop = Callable[[Sequence[TrialFacts]], str | None]


class _Surplus(Exception):
    """This trial is one more than the study wants: it is closed without being run."""


def run_trials(study: optuna.Study, objective: Objective, *, worker: str, stop: Stop = lambda trials: None) -> int:
    """Runs trials until the study has its budget of them, or `stop` says why not; returns how many this worker ran.

    Args:
        worker: Names this worker over its retries: what an earlier life of it left running is tried again at once.
        stop: Asked before a trial with those that started before it. Two workers that ask at the same time both get a
            trial from the study, and the one with the higher number asks again, with the other's among those before.
    """
    attributes = study.user_attrs
    budget, only_listed = int(attributes[BUDGET]), bool(attributes[ONLY_LISTED])
    mine, running = 0, -1
    _take_over(study, worker)

    def guarded(trial: Trial) -> float | tuple[float, float]:
        nonlocal mine, running
        # Not `STOPPED`: whoever stopped the study may have counted this very trial among those that run.
        if _is_surplus(study, trial, budget, only_listed) or stop(trial_facts(study, before=trial.number)):
            trial.set_user_attr(SURPLUS, True)
            raise _Surplus
        # Optuna's own heartbeat starts in a thread, perhaps after this process was killed: whoever is named has one.
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        trial.set_user_attr(WORKER, worker)
        mine, running = mine + 1, trial.number
        return objective(trial)

    while _counted(study, ended_only=True) < budget and STOPPED not in study.user_attrs:
        others = _counted(study) >= budget
        if only_listed:
            left = _listed(study)
            if not left:
                break  # what is missing killed its workers again and again
            others = TrialState.WAITING not in left
        if others:  # are at the last ones: stay, in case they die
            _wait(study)
        elif reason := stop(trial_facts(study)):
            print(f"sweep: stops, {reason}", flush=True)
            study.set_user_attr(STOPPED, reason)
        else:
            running = -1
            try:
                study.optimize(guarded, n_trials=1, catch=(_Surplus,))
            except Exception as error:  # passed on: it ends this worker, and says nothing about the parameters
                if running >= 0 and not (isinstance(error, WindtunnelError) and error.kind in FINAL_KINDS):
                    retry_trial(study, study.get_trials(deepcopy=False)[running])
                raise
    return mine


def settle(study: optuna.Study) -> None:
    """Waits until no trial runs: from then on, as the study has its trials or was stopped, it does not change."""
    while _in_state(study, TrialState.RUNNING):
        _wait(study)


def _is_surplus(study: optuna.Study, trial: Trial, budget: int, only_listed: bool) -> bool:
    if not only_listed:
        return _counted(study, before=trial.number) >= budget
    # Two creators can list the same point, and a worker that found the list empty gets a trial without one.
    point = trial.user_attrs.get(POINT)
    rivals = study.get_trials(deepcopy=False, states=(*ENDED, TrialState.RUNNING, TrialState.WAITING))
    return point is None or any(
        rival.number < trial.number and rival.user_attrs.get(POINT) == point for rival in rivals
    )


def _listed(study: optuna.Study) -> set[TrialState]:
    """The states of the listed trials that did not end; none: the list is done.

    A point that was lost, because its worker died between noting its failure and listing it again, is listed again.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if SURPLUS not in trial.user_attrs]
    left = {trial.state for trial in trials} & {TrialState.WAITING, TrialState.RUNNING}
    if left:
        return left
    tries: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        tries.setdefault(trial.user_attrs.get(POINT, -1), []).append(trial)
    for same in tries.values():
        if all(trial.state is TrialState.FAIL for trial in same) and len(same) <= RETRIES:
            retry_trial(study, same[-1])
            left.add(TrialState.WAITING)
    return left


def _counted(study: optuna.Study, *, before: int | None = None, ended_only: bool = False) -> int:
    """Trials that use up the budget; with `before`, those with a smaller number."""
    states = ENDED if ended_only else (*ENDED, TrialState.RUNNING)
    trials = study.get_trials(deepcopy=False, states=states)
    return sum(1 for trial in trials if before is None or trial.number < before)


def _in_state(study: optuna.Study, state: TrialState) -> bool:
    return bool(study.get_trials(deepcopy=False, states=(state,)))


def _wait(study: optuna.Study) -> None:
    _fail_dead(study, datetime.now())
    time.sleep(_WAIT_SECONDS)


def _take_over(study: optuna.Study, worker: str) -> None:
    """Fails what this worker left running when it was killed, and enqueues it again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(WORKER) == worker:
            _fail(study, trial)


def _fail_dead(study: optuna.Study, now: datetime) -> None:
    """Fails and enqueues again what runs without a heartbeat, or died before it could name its worker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        started = trial.datetime_start or now  # Optuna writes local time
        if WORKER not in trial.user_attrs and (now - started).total_seconds() > GRACE_SECONDS:
            _fail(study, trial)


def _fail(study: optuna.Study, trial: FrozenTrial) -> None:
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except ValueError:  # another worker was faster, or it did end
        return
    retry_trial(study, trial)
