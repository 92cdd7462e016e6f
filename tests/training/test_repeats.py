"""The best configurations again, with other seeds: on real, tiny trainings, in this process."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime
from typing import Any

import pytest
from optuna.trial import TrialState

import include.training.build as build_module
import include.training.repeats as repeats_module
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.document import make_document
from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training.study import STOPPED, load_study
from include.training.sweep import best_hyperparameters, sweep
from tests.fakes.wide_family import WideDataset, wide_spec

CONFIRM = {"top": 2, "seeds": 3}


@pytest.fixture(autouse=True)
def _small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.training.trials.open_dataset", lambda *_: WideDataset())
    monkeypatch.setattr("include.training.sweep._report", lambda context, study: None)


def _run(settings: Settings, spec: FamilySpec, slot: int = 0, **inputs: Any) -> dict[str, Any]:
    given = {"dataset_version": "1.0.0", "dataset_digest": "d", "seed": 7, "study": "s", "trials": spec.sweep.trials}
    document = make_document(
        "sweep", "test/run", spec, {**given, **inputs}, spec_parts=("sweep",), code_version="c",
        created_at=datetime.now(UTC), slot=slot,
    )  # fmt: skip
    return sweep(StepContext(document, open_store(settings.store_url), settings))


def test_the_best_two_are_trained_with_three_more_seeds_and_the_decision_is_the_same_for_all(
    settings: Settings,
) -> None:
    spec = wide_spec(trials=4, max_epochs=2, confirm=CONFIRM)
    output = _run(settings, spec)
    assert (output["trials_run"], output["repeats_run"]) == (4, 6)
    confirmed = output["confirmed"]
    assert [row["n"] for row in confirmed["repeated"]] == [3, 3]
    assert confirmed["repeated"][0]["trial"] == output["best"]["trial"]
    again = load_study(settings.optuna_url, "s-repeats").get_trials()
    values = {
        number: [trial.value for trial in again if trial.params["trial"] == number]
        for number in {row["trial"] for row in confirmed["repeated"]}
    }
    assert {trial.params["seed"] for trial in again} == {8, 9, 10}  # the sweep's own seed, 7, does not count
    for row in confirmed["repeated"]:
        assert row["mean"] == pytest.approx(sum(values[row["trial"]]) / 3)
        assert row["score"] == pytest.approx(row["mean"] - row["spread"])
    chosen = best_hyperparameters(settings, "s", spec)
    assert chosen["trial"] == confirmed["trial"]
    assert chosen["confirmed"] == confirmed
    assert (
        chosen["hyperparameters"]["width"]
        == load_study(settings.optuna_url, "s").get_trials()[confirmed["trial"]].params["width"]
    )
    late = _run(settings, spec, slot=1)
    assert (late["trials_run"], late["repeats_run"], late["confirmed"]) == (0, 0, confirmed)


def test_another_winner_is_what_the_final_fit_uses(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = wide_spec(trials=3, max_epochs=1, confirm=CONFIRM)
    output = _run(settings, spec)
    first, second = (row["trial"] for row in output["confirmed"]["repeated"])
    worse = {first: {8: 0.1, 9: 0.1}, second: {8: 0.9, 9: 0.9}}
    monkeypatch.setattr(repeats_module, "_values", lambda url, study: worse)
    chosen = best_hyperparameters(settings, "s", spec)
    assert chosen["trial"] == second and chosen["confirmed"]["changed"]
    params = load_study(settings.optuna_url, "s").get_trials()[second].params
    assert params.items() <= chosen["hyperparameters"].items()


def test_a_worker_that_failed_in_the_repeats_goes_on_with_what_is_left(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, done = wide_spec(trials=2, max_epochs=1, confirm=CONFIRM), []
    repeat = repeats_module.TrialRunner.repeat

    def fails(self: Any, *args: Any) -> float:
        if len(done) == 2:
            raise ConnectionError("the store is away")
        done.append(args)
        return repeat(self, *args)

    monkeypatch.setattr(repeats_module.TrialRunner, "repeat", fails)
    with pytest.raises(ConnectionError):
        _run(settings, spec)
    monkeypatch.setattr(repeats_module.TrialRunner, "repeat", repeat)
    output = _run(settings, spec)
    assert (output["trials_run"], output["repeats_run"]) == (0, 4)
    assert [row["n"] for row in output["confirmed"]["repeated"]] == [3, 3]


def test_the_budget_keeps_room_for_the_repeats_and_ends_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.training.study._seconds", lambda trial, now: 6.0)
    spec = wide_spec(trials=50, max_epochs=1, confirm=CONFIRM, budget={"minutes": 1.0})
    output = _run(settings, spec)
    assert (output["trials_run"], output["repeats_run"]) == (4, 6)  # ten of six seconds each
    assert "and 6 repeats" in output["stopped"]
    assert output["spent"]["minutes"] == 1.0
    monkeypatch.setattr("include.training.study._seconds", lambda trial, now: 8.0)
    spec = wide_spec(trials=2, max_epochs=1, confirm=CONFIRM, budget={"minutes": 1.2})
    monkeypatch.setattr("include.training.sweep.stop_rule", lambda spec: lambda trials: None)
    output = _run(settings, spec, study="t")
    assert (output["trials_run"], output["repeats_run"]) == (2, 6)
    spec = wide_spec(trials=2, max_epochs=1, confirm=CONFIRM, budget={"minutes": 1.0})
    output = _run(settings, spec, study="u")
    assert (output["trials_run"], output["repeats_run"]) == (2, 5)
    assert [row["n"] for row in output["confirmed"]["repeated"]] == [2, 2]  # the fifth has no counterpart
    assert "minutes" in load_study(settings.optuna_url, "u-repeats").user_attrs[STOPPED]


def test_two_objectives_are_quality_and_what_serving_the_model_takes(settings: Settings) -> None:
    space = {"width": {"kind": "choice", "values": [4, 8192]}}
    second = {"metric": "latency_p50_ms", "choose": "knee", "requests": 40}
    spec = wide_spec(sampler="grid", pruner="none", second=second, space=space, trials=2)
    output = _run(settings, spec)
    trials = load_study(settings.optuna_url, "s").get_trials(states=(TrialState.COMPLETE,))
    latency = {trial.params["width"]: trial.values[1] for trial in trials}
    assert latency[8192] > latency[4] > 0.0
    assert {one["trial"] for one in output["best"]["front"]} <= {trial.number for trial in trials}
    assert output["best"]["second"] in latency.values()


def test_the_second_objective_may_be_what_validation_gives(settings: Settings) -> None:
    space = {"width": {"kind": "choice", "values": [2, 64]}}
    second = {"metric": "parameters", "limit": 100.0}
    spec = wide_spec(sampler="grid", pruner="none", second=second, space=space, trials=2, max_epochs=2)
    output = _run(settings, spec)
    assert output["best"]["params"] == {"width": 2}
    assert output["best"]["second"] == 2 * 2 + 2 + 2 + 1
    wrong = wide_spec(pruner="none", second={"metric": "params", "limit": 100.0})
    with pytest.raises(Exception, match="validation gives no metric 'params'"):
        _run(settings, wrong, study="wrong")


def test_the_model_of_a_trial_is_gone_before_the_next_is_made(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []

    def build(*arguments: Any) -> Any:
        assert [one for one in made if one() is not None] == []
        module, data = build_module.build(*arguments)
        made.append(weakref.ref(module))
        return module, data

    monkeypatch.setattr("include.training.trial.build", build)
    gc.disable()  # only what the worker does for it counts
    try:
        _run(settings, wide_spec(trials=3, max_epochs=1))
    finally:
        gc.enable()
    assert len(made) == 3
