# ruff: noqa: TID253 - imported by steps and tasks only
"""The best configurations of a study, trained again with other seeds: a second study beside it, which is all list.

It is shared, resumed and kept exact as the sweep's study is. Which configurations it holds is fixed when it is made, by
which time the sweep's study does not change any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState

from include.spec.search import SweepSpec
from include.training.budget import TrialFacts
from include.training.choice import Confirmation, confirm, ranked
from include.training.study import BUDGET, DEFAULTS, ONLY_LISTED, REPEATS_OF, open_listed, outcomes, trial_facts
from include.training.study_storage import open_storage
from include.training.study_trials import Stop, run_trials
from include.training.trials import TrialRunner

TRIAL, SEED = "trial", "seed"


def repeats_name(study: str) -> str:
    """The name of the study that holds the repeats of `study`."""
    return f"{study}-repeats"


def run_repeats(
    url: str, study: optuna.Study, sweep: SweepSpec, runner: TrialRunner, *, seed: int, worker: str, stop: Stop
) -> int:
    """Trains the best configurations again until each has its seeds, or `stop` says why not.

    Args:
        study: Which does not change any more (`study.settle`).
        seed: The sweep's; the repeats have those that follow it.
        stop: Asked with the trials of the sweep and the repeats so far.

    Returns:
        How many repeats this worker ran.
    """
    rule = sweep.confirm
    best = ranked(outcomes(study), sweep)[: rule.top] if rule else []
    if rule is None or not best:
        return 0
    # All configurations with one seed, then with the next: where it ends early, all had the same number.
    listed = [{TRIAL: one.trial, SEED: seed + number} for number in range(1, rule.seeds + 1) for one in best]
    attributes = {
        BUDGET: len(listed),
        ONLY_LISTED: True,
        REPEATS_OF: study.study_name,
        DEFAULTS: {},
    }
    name = repeats_name(study.study_name)
    repeats = open_listed(url, name, {sweep.metric: sweep.direction}, RandomSampler(), listed, attributes)
    params = {trial.number: trial.params for trial in study.get_trials(deepcopy=False)}
    swept = trial_facts(study)
    trials = sorted({point[TRIAL] for point in listed})

    def objective(trial: Trial) -> float:
        chosen = trial.suggest_categorical(TRIAL, trials)
        again = trial.suggest_int(SEED, seed + 1, seed + rule.seeds)
        return runner.repeat(repeats, trial, params[chosen], again)

    def stop_all(facts: Sequence[TrialFacts]) -> str | None:
        return stop([*swept, *facts])

    return run_trials(repeats, objective, worker=worker, stop=stop_all)


def confirmation(url: str, study: optuna.Study, sweep: SweepSpec) -> Confirmation | None:
    """What the repeats decided; None where the spec asks for none, or no trial finished."""
    found = outcomes(study)
    if sweep.confirm is None or not found:
        return None
    return confirm(found, _values(url, study.study_name), sweep, sweep.confirm)


def _values(url: str, study: str) -> Mapping[int, Mapping[int, float | None]]:
    """Trial -> seed -> value; None where it diverged."""
    repeats = repeats_study(url, study)
    if repeats is None:
        return {}
    found: dict[int, dict[int, float | None]] = {}
    for trial in repeats.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        value = trial.value if trial.state is TrialState.COMPLETE else None
        found.setdefault(trial.params[TRIAL], {})[trial.params[SEED]] = value
    return found


def repeats_study(url: str, study: str) -> optuna.Study | None:
    """The study that holds the repeats of `study`; None where there is none."""
    try:
        return optuna.load_study(study_name=repeats_name(study), storage=open_storage(url))
    except KeyError:
        return None


def to_json(found: Confirmation, study: optuna.Study) -> dict[str, Any]:
    """The confirmation as a record, each configuration with its hyperparameters."""
    params = {trial.number: trial.params for trial in study.get_trials(deepcopy=False)}
    repeated = [{**vars(row), "params": params[row.trial]} for row in found.repeated]
    return {"trial": found.trial, "changed": found.changed, "why": found.why, "repeated": repeated}
