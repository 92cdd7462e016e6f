"""The `sweep` step: real workers, a shared study, and the hyperparameters that come out of it."""

from __future__ import annotations

import os
import signal

import pytest
from optuna.trial import TrialState

from include.training.study import load_study, open_study
from include.training.study_storage import StudyError
from include.training.sweep import best_hyperparameters
from tests.training.conftest import Steps, small_spec, wait_for

_INPUTS = {"study": "s", "trials": 4, "adjust": {}}


@pytest.mark.slow
def test_two_workers_one_killed_and_retried_finish_the_study(steps: Steps) -> None:
    spec = small_spec(sweep={"workers": 2, "max_epochs": 2})
    documents = [steps.document("sweep", spec, _INPUTS, slot=slot) for slot in (0, 1)]
    processes = [steps.start(document) for document in documents]

    def running() -> bool:
        try:
            return bool(load_study(steps.settings.optuna_url, "s").get_trials(states=(TrialState.RUNNING,)))
        except StudyError:
            return False

    wait_for(running)
    os.kill(processes[0].pid, signal.SIGKILL)
    outputs = [steps.run(documents[0])]
    log = processes[1].communicate(timeout=240)[0].decode()
    assert processes[1].returncode == 0, log
    outputs.append(steps.outputs(documents[1]))

    study = load_study(steps.settings.optuna_url, "s")
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    assert len(ended) == 4
    assert all(output["finished"] for output in outputs)
    best = best_hyperparameters(steps.settings, "s", spec)
    values = [trial.value for trial in ended if trial.value is not None]
    assert best["value"] == max(values)
    assert best["hyperparameters"].keys() == spec.hyperparameters.keys()
    defaults = next(t for t in ended if t.params["learning_rate"] == spec.hyperparameters["learning_rate"])
    assert defaults.value is None or best["value"] >= defaults.value

    # Started again, a worker uses its result; the study is not searched further.
    assert steps.run(documents[1]) == outputs[1]
    assert len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))) == 4


@pytest.mark.slow
def test_a_trial_that_diverges_is_pruned_and_does_not_end_the_sweep(steps: Steps) -> None:
    space = {"learning_rate": {"kind": "choice", "values": [0.0003, 1e30]}}
    spec = small_spec(sweep={"sampler": "grid", "space": space})
    steps.run(steps.document("sweep", spec, {**_INPUTS, "trials": 3}))
    states = {
        trial.params["learning_rate"]: trial.state for trial in load_study(steps.settings.optuna_url, "s").get_trials()
    }
    assert states == {0.0003: TrialState.COMPLETE, 1e30: TrialState.PRUNED}


def test_no_result_without_a_finished_trial(steps: Steps) -> None:
    spec = small_spec()
    open_study(steps.settings.optuna_url, "s", spec.sweep, seed=0, slot=0, defaults=spec.hyperparameters, budget=1)
    with pytest.raises(StudyError, match="no trial of the sweep finished"):
        best_hyperparameters(steps.settings, "s", spec)
    with pytest.raises(StudyError, match="there is no study"):
        best_hyperparameters(steps.settings, "other", spec)


def test_the_defaults_of_an_adjusted_sweep_reach_the_final_fit(steps: Steps) -> None:
    spec = small_spec()
    defaults = {**spec.hyperparameters, "max_epochs": 9}
    study = open_study(steps.settings.optuna_url, "s", spec.sweep, seed=0, slot=0, defaults=defaults, budget=1)
    study.optimize(lambda trial: trial.suggest_float("learning_rate", 1e-5, 1e-2), n_trials=1)
    best = best_hyperparameters(steps.settings, "s", spec)
    assert best["hyperparameters"]["max_epochs"] == 9
    assert best["hyperparameters"]["learning_rate"] == spec.hyperparameters["learning_rate"]
