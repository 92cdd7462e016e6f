# ruff: noqa: TID253 - imported by steps and tasks only
"""A study that several workers share, with exactly the spec's number of trials whatever dies in between.

Every worker asks for trials until the study has its budget. A trial counts when it finished or was pruned, or while it
runs; a trial of a worker that died is failed and its parameters are tried again. Which of two rivals may use the last
place is decided by the trial's number, which the database gives out once. Trial 0 is the spec's defaults.
"""

from __future__ import annotations

import contextlib
import copy
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from include.errors import WindtunnelError
from include.spec.search import SweepSpec
from include.training.budget import TrialFacts
from include.training.space import grid, inside

WORKER, DEFAULTS, BUDGET, SURPLUS, STOPPED = "worker", "defaults", "trials", "surplus", "stopped"
HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 20
_WAIT_SECONDS = 0.5
_OPEN_TRIES = 20
_CREATOR_SECONDS = 5.0
_RETRIES = 3
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

Objective = Callable[[Trial], float]
Stop = Callable[[Sequence[TrialFacts]], str | None]


class StudyError(WindtunnelError):
    """The study cannot be opened, or has no result."""


class _Surplus(Exception):
    """This trial is one more than the study wants: it is closed without being run."""


def open_study(
    url: str, name: str, spec: SweepSpec, *, seed: int, slot: int, defaults: Mapping[str, Any], budget: int
) -> optuna.Study:
    """The study, made by whichever worker comes first.

    Args:
        slot: Which worker this is; workers draw differently.
        defaults: What a fit without a sweep would use; the part of it that the space searches becomes trial 0.

    Raises:
        StudyError: The database cannot be used.
    """
    storage, sampler, pruner = _storage(url), _sampler(spec, seed, slot), _pruner(spec)
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, pruner=pruner, direction=spec.direction
        )
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
        deadline = time.monotonic() + _CREATOR_SECONDS
        while DEFAULTS not in study.user_attrs and time.monotonic() < deadline:
            time.sleep(0.05)  # whoever made the study is about to enqueue the defaults, which must be its first trial
    if DEFAULTS not in study.user_attrs:
        study.enqueue_trial(inside(defaults, spec.space), skip_if_exists=True)
        study.set_user_attr(BUDGET, budget)
        study.set_user_attr(DEFAULTS, dict(defaults))  # last: it says that the study is complete
    return study


def load_study(url: str, name: str) -> optuna.Study:
    """A study that exists. Raises `StudyError`."""
    try:
        return optuna.load_study(study_name=name, storage=_storage(url))
    except KeyError:
        raise StudyError(f"there is no study {name!r}", hint="did the sweep run?", study=name) from None


def run_trials(
    study: optuna.Study, objective: Objective, *, budget: int, worker: str, stop: Stop = lambda trials: None
) -> int:
    """Runs trials until the study has `budget` of them, or `stop` says why not; returns how many this worker ran.

    Args:
        worker: Names this worker over its retries: what an earlier life of it left running is tried again at once.
        stop: Asked before a trial with those that started before it. Two workers that ask at the same time both get a
            trial from the study, and the one with the higher number asks again, with the other's among those before.
    """
    _take_over(study, worker)
    mine = 0

    def guarded(trial: Trial) -> float:
        nonlocal mine
        if _counted(study, before=trial.number) >= budget or stop(trial_facts(study, before=trial.number)):
            trial.set_user_attr(SURPLUS, True)
            raise _Surplus
        # Optuna's own heartbeat starts in a thread, perhaps after this process was killed: whoever is named has one.
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        trial.set_user_attr(WORKER, worker)
        mine += 1
        return objective(trial)

    while _counted(study, ended_only=True) < budget:
        if _counted(study) >= budget:  # others are at the last ones: stay, in case they die
            _fail_dead(study, datetime.now())
            time.sleep(_WAIT_SECONDS)
            continue
        if reason := stop(trial_facts(study)):
            print(f"sweep: stops, {reason}", flush=True)
            study.set_user_attr(STOPPED, reason)
            break
        study.optimize(guarded, n_trials=1, catch=(_Surplus,))
    return mine


def trial_facts(study: optuna.Study, *, before: int | None = None) -> list[TrialFacts]:
    """The trials that started (with `before`, those with a smaller number), in their order."""
    now, found = datetime.now(), []  # Optuna writes local time
    for trial in study.get_trials(deepcopy=False):
        if (
            trial.datetime_start is None
            or SURPLUS in trial.user_attrs
            or (before is not None and trial.number >= before)
        ):
            continue
        running = trial.state is TrialState.RUNNING
        seconds = ((now if running else trial.datetime_complete or now) - trial.datetime_start).total_seconds()
        value = trial.value if trial.state is TrialState.COMPLETE else None
        found.append(TrialFacts(max(0.0, seconds), running, trial.state in _ENDED, value))
    return found


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best finished trial; of equal ones, the first. None where none finished."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not finished:
        return None
    sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
    return max(finished, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))


def _counted(study: optuna.Study, *, before: int | None = None, ended_only: bool = False) -> int:
    """Trials that use up the budget; with `before`, those with a smaller number."""
    states = _ENDED if ended_only else (*_ENDED, TrialState.RUNNING)
    trials = study.get_trials(deepcopy=False, states=states)
    return sum(1 for trial in trials if before is None or trial.number < before)


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
    with contextlib.suppress(ValueError):  # another worker was faster, or it did end
        study.tell(trial.number, state=TrialState.FAIL)
        _retry(study, trial)


def _retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueues the parameters of a failed trial again, a few times at most; nobody's trial until somebody takes it."""
    again = copy.deepcopy(trial)
    again.user_attrs = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES)(study, again)


def _storage(url: str) -> RDBStorage:
    """The database; two workers that create its tables at the same time get in each other's way, once."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for left in reversed(range(_OPEN_TRIES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return RDBStorage(
                    url,
                    engine_kwargs={"connect_args": {"timeout": 30}} if sqlite else {"pool_pre_ping": True},
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=_retry,
                )
        except (SQLAlchemyError, RuntimeError) as error:
            if not left:
                shown = parsed.render_as_string(hide_password=True)
                raise StudyError(
                    f"the study database cannot be used: {error}", where=shown, hint="check WINDTUNNEL_OPTUNA_URL"
                ) from error
            time.sleep(0.05 + random.random() * 0.2)
    raise AssertionError("unreachable")


def _sampler(spec: SweepSpec, seed: int, slot: int) -> optuna.samplers.BaseSampler:
    own = seed + 7919 * slot
    if spec.sampler == "random":
        return optuna.samplers.RandomSampler(seed=own)
    if spec.sampler == "grid":
        return optuna.samplers.GridSampler(grid(spec.space), seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar: what other workers are trying counts as tried, so that they do not try the same.
        return optuna.samplers.TPESampler(seed=own, n_startup_trials=4, multivariate=True, constant_liar=True)


def _pruner(spec: SweepSpec) -> optuna.pruners.BasePruner:
    if spec.pruner == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0)
