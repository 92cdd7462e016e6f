# ruff: noqa: TID253 - imported by steps and tasks only
"""The study of a sweep: made once by whichever worker comes first, and read by all.

Some trials are listed when the study is made, and wait in it: the spec's defaults, which are always trial 0, and all
points of a grid. Workers take them from the list one by one; a study that is nothing but its list ends with it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from include.spec.search import SweepSpec
from include.spec.space import grid_points
from include.training.budget import TrialFacts
from include.training.choice import Outcome
from include.training.samplers import make_pruner, make_sampler
from include.training.space import inside, shuffled_grid
from include.training.study_storage import POINT, StudyError, open_storage

DEFAULTS, BUDGET, SURPLUS, STOPPED, ONLY_LISTED = "defaults", "trials", "surplus", "stopped", "only_listed"
SWEEP, FAMILY, DATASET, PER_SECOND = "sweep", "family", "dataset_version", "per_second"
REPEATS_OF = "repeats_of"
_CREATOR_SECONDS = 5.0
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

Direction = Literal["maximize", "minimize"]


def open_study(
    url: str,
    name: str,
    spec: SweepSpec,
    *,
    seed: int,
    slot: int,
    defaults: Mapping[str, Any],
    budget: int,
    facts: Mapping[str, Any] = {},
) -> optuna.Study:
    """The study of a sweep, made by whichever worker comes first.

    Args:
        slot: Which worker this is; workers draw differently.
        defaults: What a fit without a sweep would use; the part of it that the space searches becomes trial 0.
        budget: Trials; a grid has no more than its points, and the defaults.
        facts: Further ones to keep with the study, for who reads it.

    Raises:
        StudyError: The database cannot be used.
    """
    first, grid = inside(defaults, spec.space), spec.sampler == "grid"
    listed = shuffled_grid(spec.space, first, seed) if grid else [first]
    if grid and budget < sum(1 for _ in grid_points(spec.space)):  # a run may ask for less than the spec has to
        listed = listed[:budget]
    metrics = {spec.metric: spec.direction} | ({spec.second.metric: spec.second.direction} if spec.second else {})
    attributes = {
        **facts,
        SWEEP: spec.model_dump(mode="json"),
        BUDGET: len(listed) if grid else budget,
        ONLY_LISTED: grid,
        DEFAULTS: dict(defaults),
    }
    study = open_listed(url, name, metrics, make_sampler(spec, seed, slot), listed, attributes)
    study.pruner = make_pruner(spec)
    return study


def open_listed(
    url: str,
    name: str,
    metrics: Mapping[str, Direction],
    sampler: BaseSampler,
    listed: Sequence[Mapping[str, Any]],
    attributes: Mapping[str, Any],
) -> optuna.Study:
    """The study `name`, with the trials of the list waiting in it, and its attributes; made by whoever comes first.

    Args:
        metrics: Objective -> direction.

    Raises:
        StudyError: The database cannot be used.
    """
    storage, complete = open_storage(url), tuple(attributes)[-1]  # the last one says that the study is complete
    directions = list(metrics.values())
    try:
        study = optuna.create_study(study_name=name, storage=storage, sampler=sampler, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        _wait_for_creator(study, complete)
    if complete not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(metrics))
        there = {trial.user_attrs.get(POINT) for trial in study.get_trials(deepcopy=False)}
        for index, point in enumerate(listed):
            if index not in there:
                study.enqueue_trial(dict(point), user_attrs={POINT: index})
        for key, value in attributes.items():
            study.set_user_attr(key, value)
    return study


def _wait_for_creator(study: optuna.Study, complete: str) -> None:
    """Whoever made the study is about to list its trials; one that dies over it leaves the rest to us."""
    seen, deadline = -1, 0.0
    while complete not in study.user_attrs:
        count = len(study.get_trials(deepcopy=False))
        if count != seen:
            seen, deadline = count, time.monotonic() + _CREATOR_SECONDS
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def load_study(url: str, name: str) -> optuna.Study:
    """A study that exists. Raises `StudyError`."""
    try:
        return optuna.load_study(study_name=name, storage=open_storage(url))
    except KeyError:
        raise StudyError(f"there is no study {name!r}", hint="did the sweep run?", study=name) from None


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
        value = trial.values[0] if trial.state is TrialState.COMPLETE else None
        found.append(TrialFacts(_seconds(trial, now), running, trial.state in ENDED, value))
    return found


def outcomes(study: optuna.Study) -> list[Outcome]:
    """What the finished trials came to, in their order."""
    return [
        Outcome(trial.number, *trial.values)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]


def _seconds(trial: FrozenTrial, now: datetime) -> float:
    ended = now if trial.state is TrialState.RUNNING else trial.datetime_complete or now
    return max(0.0, (ended - (trial.datetime_start or ended)).total_seconds())
