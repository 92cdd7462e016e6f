"""Samplers and pruners on shared studies: a grid that is exhausted exactly, conditions, two objectives, brackets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial, TrialState

from include.spec.search import SweepSpec
from include.training import study_trials
from include.training.choice import pareto_front
from include.training.space import draw, shuffled_grid
from include.training.study import BUDGET, load_study, open_study, outcomes
from include.training.study_storage import POINT, RETRIES
from include.training.study_trials import run_trials
from tests.training.conftest import ROOT, wait_for

GRID = {
    "n": {"kind": "int", "low": 0, "high": 4},
    "mode": {"kind": "choice", "values": ["a", "b", "c"]},
}
DEFAULTS = {"n": 2, "mode": "b"}


def _spec(**changes: Any) -> SweepSpec:
    return SweepSpec.model_validate({"metric": "m", "space": GRID, "trials": 40} | changes)


def _open(url: str, slot: int = 0, budget: int = 40, defaults: Any = None, **changes: Any) -> optuna.Study:
    spec = _spec(**changes)
    return open_study(url, "s", spec, seed=1, slot=slot, defaults=defaults or DEFAULTS, budget=budget)


def _score(trial: Trial) -> float:
    values = draw(trial, _spec().space)
    return float(values["n"]) if values["mode"] == "c" else 0.0


def _points(study: optuna.Study) -> Counter[tuple[Any, ...]]:
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return Counter(tuple(trial.params[name] for name in sorted(trial.params)) for trial in trials)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def test_workers_exhaust_a_grid_exactly_and_end(url: str) -> None:
    def work(slot: int) -> None:
        run_trials(_open(url, slot, sampler="grid"), _score, worker=f"w{slot}")

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    study = load_study(url, "s")
    points = _points(study)
    assert len(points) == 15 and set(points.values()) == {1}
    assert study.get_trials()[0].params == {"n": 2, "mode": "b"}
    assert run_trials(_open(url, sampler="grid"), _score, worker="late") == 0


def test_defaults_beside_the_grid_are_one_more_trial(url: str) -> None:
    space = {"rate": {"kind": "float", "low": 0.0, "high": 1.0, "step": 0.5}}
    defaults = {"rate": 0.5}
    study = _open(url, sampler="grid", space=space, defaults=defaults)
    run_trials(study, lambda trial: trial.suggest_float("rate", 0, 1, step=0.5), worker="w")
    assert sorted(point[0] for point in _points(study)) == [0.0, 0.5, 1.0]


def test_a_run_may_ask_for_less_than_the_grid(url: str) -> None:
    study = _open(url, budget=4, sampler="grid")
    assert run_trials(study, _score, worker="w") == 4
    assert (len(_points(study)), study.user_attrs[BUDGET]) == (4, 4)


def test_two_who_list_the_same_points_try_each_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.training.study._CREATOR_SECONDS", 0.2)
    made = optuna.create_study(study_name="s", storage=url, direction="maximize")
    for point, values in enumerate(shuffled_grid(_spec().space, DEFAULTS, 1)[:5]):
        for _ in range(2):  # by the creator, and by who thought it was dead
            made.enqueue_trial(values, user_attrs={POINT: point})
    run_trials(_open(url, sampler="grid"), _score, worker="w")
    points = _points(load_study(url, "s"))
    assert len(points) == 15 and set(points.values()) == {1}


def test_a_list_that_its_creator_left_half_made_is_finished(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue, made = optuna.Study.enqueue_trial, []

    def dies(self: optuna.Study, *args: Any, **kwargs: Any) -> None:
        if len(made) == 6:
            raise KeyboardInterrupt
        made.append(enqueue(self, *args, **kwargs))

    monkeypatch.setattr(optuna.Study, "enqueue_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        _open(url, sampler="grid")
    monkeypatch.undo()
    monkeypatch.setattr("include.training.study._CREATOR_SECONDS", 0.2)
    study = _open(url, slot=1, sampler="grid")
    run_trials(study, _score, worker="w")
    points = _points(study)
    assert len(points) == 15 and set(points.values()) == {1}


def test_a_point_whose_retry_was_lost_is_listed_again(url: str) -> None:
    study = _open(url, sampler="grid")
    lost = study.ask()
    study.tell(lost, state=TrialState.FAIL)  # its worker died before it could list the point again
    run_trials(study, _score, worker="w")
    assert len(_points(study)) == 15


def test_a_point_that_kills_every_worker_is_given_up_and_the_grid_ends(url: str) -> None:
    tries = 0

    def poison(trial: Trial) -> float:
        nonlocal tries
        if draw(trial, _spec().space) == DEFAULTS:
            tries += 1
            raise MemoryError
        return 0.0

    for _ in range(RETRIES + 1):
        with pytest.raises(MemoryError):
            run_trials(_open(url, sampler="grid"), poison, worker="w")
    study = _open(url, sampler="grid")
    run_trials(study, poison, worker="w")
    assert (tries, len(_points(study))) == (RETRIES + 1, 14)


_HANGS = """
    import sys, time
    from pathlib import Path
    from tests.training.test_samplers import DEFAULTS, _spec
    from include.training.space import draw, shuffled_grid
    from include.training.study import open_study
    from include.training.study_trials import run_trials
    url, mark = sys.argv[1:]
    spec = _spec(sampler="grid")
    study = open_study(url, "s", spec, seed=1, slot=0, defaults=DEFAULTS, budget=40)
    def hang(trial):
        if trial.number == 3:
            Path(mark).write_text("running")
            time.sleep(600)
        draw(trial, spec.space)
        return 0.0
    run_trials(study, hang, worker="first")
"""


def test_a_point_of_a_worker_that_was_killed_is_tried_again(url: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_HANGS), url, str(mark)], cwd=ROOT)
    wait_for(mark.exists, 60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    study = _open(url, sampler="grid")
    assert run_trials(study, _score, worker="first") == 12  # three were done
    points = _points(study)
    assert len(points) == 15 and set(points.values()) == {1}


CONDITIONAL = {
    "kind": {"kind": "choice", "values": ["sgd", "adam"]},
    "momentum": {"kind": "float", "low": 0.0, "high": 0.9, "when": {"kind": ["sgd"]}},
    "beta": {"kind": "float", "low": 0.5, "high": 1.0, "when": {"kind": ["adam"]}},
}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random", "grid"])
def test_every_sampler_draws_from_a_conditional_space(url: str, sampler: str) -> None:
    spec = _spec(sampler=sampler, space=CONDITIONAL)
    defaults = {"kind": "adam", "momentum": 0.9, "beta": 0.75}
    study = open_study(url, "s", spec, seed=1, slot=0, defaults=defaults, budget=14)

    def score(trial: Trial) -> float:
        values = draw(trial, spec.space)
        return values["momentum"] if values["kind"] == "sgd" else values["beta"] - 1.0

    run_trials(study, score, worker="w")
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    assert {frozenset(trial.params) for trial in trials} == {
        frozenset({"kind", "momentum"}),
        frozenset({"kind", "beta"}),
    }
    assert trials[0].params == {"kind": "adam", "beta": 0.75}
    if sampler == "grid":
        assert sorted(trial.params.get("momentum", -1.0) for trial in trials) == [-1.0] * 3 + [0.0, 0.45, 0.9]
    else:
        assert len(trials) == 14


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_every_sampler_takes_two_objectives_and_trials_that_diverged(url: str, sampler: str) -> None:
    space = {"x": {"kind": "float", "low": 0.0, "high": 1.0}, "y": {"kind": "float", "low": 0.0, "high": 1.0}}
    spec = _spec(sampler=sampler, space=space, pruner="none", second={"metric": "memory_mb", "choose": "knee"})
    study = open_study(url, "s", spec, seed=1, slot=0, defaults={"x": 0.5, "y": 0.5}, budget=14)

    def score(trial: Trial) -> tuple[float, float]:
        values = draw(trial, space=spec.space)
        if trial.number % 4 == 2:
            raise optuna.TrialPruned
        return values["x"], values["x"] ** 2 + values["y"]

    assert run_trials(study, score, worker="w") == 14
    found = outcomes(study)
    assert len(found) == 11
    assert len(pareto_front(found, spec)) > 1
    assert study.metric_names == ["m", "memory_mb"]


@pytest.mark.parametrize("pruner", ["halving", "hyperband", "median"])
def test_pruners_end_hopeless_trials_and_never_the_best(url: str, pruner: str) -> None:
    space = {"x": {"kind": "float", "low": 0.0, "high": 1.0}}
    spec = _spec(sampler="random", space=space, pruner=pruner, max_epochs=9)
    study = open_study(url, "s", spec, seed=3, slot=0, defaults={"x": 0.5}, budget=24)
    epochs: dict[int, int] = {}

    def train(trial: Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        for epoch in range(1, 10):
            trial.report(x, epoch)
            epochs[trial.number] = epoch
            if epoch < 9 and trial.should_prune():
                raise optuna.TrialPruned
        return x

    run_trials(study, train, worker="w")
    states = Counter(trial.state for trial in study.get_trials())
    assert states[TrialState.PRUNED] >= 4 and states[TrialState.COMPLETE] >= 2
    assert sum(epochs.values()) < 0.85 * 9 * 24
    best = max(study.get_trials(), key=lambda trial: trial.params["x"])
    assert best.state is TrialState.COMPLETE


def test_a_retried_trial_is_judged_at_every_rung_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_trials, "GRACE_SECONDS", 0)
    spec = _spec(sampler="random", space={"x": {"kind": "float", "low": 0.0, "high": 1.0}}, pruner="halving")
    study = open_study(url, "s", spec, seed=3, slot=0, defaults={"x": 0.5}, budget=1)
    dead = study.ask()
    dead.report(dead.suggest_float("x", 0.0, 1.0), 1)
    assert not dead.should_prune()
    assert "completed_rung_0" in study.get_trials()[0].system_attrs
    run_trials(study, lambda trial: trial.suggest_float("x", 0.0, 1.0), worker="w")
    again = study.get_trials()[1]
    assert again.params == {"x": 0.5}
    assert "completed_rung_0" not in again.system_attrs
