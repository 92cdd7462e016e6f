"""Forecasts of bicycle rentals: the history that they look back on, their packages, and what they are judged by."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from include.errors import DataError, UserError
from include.families.contract import Arrays
from include.families.demand_forecasting.family import DemandForecasting
from include.families.demand_forecasting.features import INPUTS, WIDTH, feature_matrix
from include.families.demand_forecasting.history import forecasts
from include.frameworks.sklearn_models import save_estimator
from include.serving.package import seal
from include.serving.tensors import InferRequest, batch, one_row, tensor_out
from include.serving.wire import RequestError
from include.spec import FamilySpec, load_family
from include.training.trainer import TrialWork, load_trainer
from include.training.weights import Origins
from tests.fakes.bicycle_hours import BicycleHours

CODE = DemandForecasting()
MISSING = 1000


@pytest.fixture(scope="module")
def spec() -> FamilySpec:
    return load_family("demand_forecasting")


@pytest.fixture(scope="module")
def hours() -> BicycleHours:
    return BicycleHours()


@pytest.fixture(scope="module")
def trained(
    spec: FamilySpec, hours: BicycleHours, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A package of boosted trees, and what its export said."""
    folder = tmp_path_factory.mktemp("trained")
    arrays = CODE.arrays(spec, hours, "train")
    estimator = CODE.estimator(spec, spec.hyperparameters, 1).set_params(max_iter=60)
    save_estimator(estimator.fit(arrays.features, arrays.targets, sample_weight=arrays.weights), folder / "best.skops")
    package = folder / "package"
    package.mkdir()
    facts = CODE.export(spec, hours, spec.hyperparameters, folder / "best.skops", package)
    seal(package, spec.family, spec.code, facts)
    return package, facts


def test_an_hour_looks_back_on_what_was_known_a_day_before(hours: BicycleHours) -> None:
    found = forecasts(hours, "test")
    rentals = hours.table("hours").column("rentals").to_pylist()
    number = int(found.ids[40])
    request = found.request(40)
    assert request["rentals_day_before"] == rentals[number - 24]
    assert request["rentals_two_days_before"] == rentals[number - 48]
    assert request["rentals_week_before"] == rentals[number - 168]
    assert request["rentals_week_mean"] == pytest.approx(np.mean(rentals[number - 191 : number - 23]), abs=1e-3)
    assert found.rentals[40] == rentals[number]
    assert request["weather"] in ("clear or few clouds", "mist or clouds", "light rain or snow")


def test_hours_without_their_history_are_no_examples() -> None:
    whole, gap = BicycleHours(), BicycleHours(without=frozenset({MISSING}))
    ids = {split: [int(i) for i in forecasts(whole, split).ids] for split in ("train", "validation", "test")}
    assert min(ids["train"]) == 192
    left = {int(i) for split in ids for i in forecasts(gap, split).ids}
    assert {i for numbers in ids.values() for i in numbers} - left == {
        MISSING,
        MISSING + 24,
        MISSING + 48,
        MISSING + 168,
    }


def test_a_day_that_has_no_examples_is_an_error() -> None:
    with pytest.raises(DataError, match="no hour has the rentals of the week before it"):
        forecasts(BicycleHours(without=frozenset(range(100, 1680))), "train")


def test_the_package_predicts_as_the_trees_do_and_better_than_last_week(
    spec: FamilySpec, hours: BicycleHours, trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, facts = trained
    assert facts["made_by"] == "sklearn"
    assert facts["parity_max_abs_difference"] < 1e-4
    off = CODE.evaluate(CODE.load(folder), hours, "test").metrics["absolute_error"].mean()
    for name in CODE.baselines():
        (tmp_path / name).mkdir()
        CODE.export_baseline(name, spec, hours, tmp_path / name)
        naive = CODE.evaluate(CODE.load(tmp_path / name), hours, "test")
        assert off < 0.8 * naive.metrics["absolute_error"].mean()
    # The last baseline: the rentals of the same hour a week before, and nothing else.
    found = forecasts(hours, "test")
    told = CODE.load(tmp_path / "week_before").predict(found.inputs)["rentals"]
    assert told == pytest.approx(found.inputs["rentals_week_before"], rel=1e-4, abs=1e-2)


def test_before_training_it_predicts_the_median_share(spec: FamilySpec, hours: BicycleHours, tmp_path: Path) -> None:
    CODE.export(spec, hours, spec.hyperparameters, None, tmp_path)
    request = {name: [value] for name, value in forecasts(hours, "test").request(3).items()}
    median = float(np.median(CODE.arrays(spec, hours, "train").targets))
    expected = median * request["rentals_week_mean"][0]
    assert CODE.load(tmp_path).predict(request)["rentals"] == pytest.approx([expected], rel=1e-4)
    with pytest.raises(UserError, match="there is no baseline 'oracle'"):
        CODE.export_baseline("oracle", spec, hours, tmp_path)


def test_validation_judges_as_the_evaluation_does(
    spec: FamilySpec, hours: BicycleHours, trained: tuple[Path, dict[str, Any]]
) -> None:
    runtime = CODE.load(trained[0])
    arrays = CODE.arrays(spec, hours, "validation")
    assert isinstance(arrays, Arrays) and arrays.features.shape == (len(arrays), WIDTH)
    shares = runtime._model.predict(arrays.features).astype(np.float64)  # type: ignore[attr-defined]
    validated = CODE.validation_metrics(shares, arrays)
    evaluated = CODE.evaluate(runtime, hours, "validation").metrics
    assert validated["absolute_error"] == pytest.approx(evaluated["absolute_error"].mean(), abs=0.01)
    assert validated["close"] == pytest.approx(evaluated["close"].mean(), abs=0.01)


def test_a_request_is_checked_by_its_types_and_ranges(
    hours: BicycleHours, trained: tuple[Path, dict[str, Any]]
) -> None:
    runtime = CODE.load(trained[0])
    request = forecasts(hours, "test").request(0)
    values = one_row(runtime, request, max_text=100, max_values=1000)
    assert runtime.answer(runtime.predict(values), 0)["rentals"] >= 0
    for name, value in (("hour", 7.5), ("holiday", 1), ("weather", 3), ("temperature", "warm")):
        with pytest.raises(RequestError, match=name):
            one_row(runtime, {**request, name: value}, max_text=100, max_values=1000)
    for name, value in (("hour", 24), ("weather", "hail"), ("rentals_week_mean", -1.0)):
        with pytest.raises(DataError, match=name):
            runtime.predict({**values, name: [value]})


def test_it_speaks_the_open_inference_protocol(hours: BicycleHours, trained: tuple[Path, dict[str, Any]]) -> None:
    runtime, found = CODE.load(trained[0]), forecasts(hours, "test")
    tensors = [
        {"name": name, "shape": [3], "datatype": kind, "data": list(found.inputs[name][:3])}
        for name, kind in INPUTS.items()
    ]
    inputs, count = batch(runtime, InferRequest.model_validate({"inputs": tensors}), 16, 100, 1000)
    assert count == 3
    outputs = runtime.predict(inputs)

    class Outputs:
        def __init__(self) -> None:
            self.outputs = outputs

    told = tensor_out(runtime, Outputs(), "rentals")  # type: ignore[arg-type]
    assert (told["shape"], told["datatype"]) == ([3], "FP32")
    alone = [runtime.predict(one_row(runtime, found.request(row), 100, 1000))["rentals"][0] for row in range(3)]
    assert told["data"] == pytest.approx(alone, rel=1e-5)


def test_a_label_says_how_far_off_it_was(trained: tuple[Path, dict[str, Any]]) -> None:
    runtime = CODE.load(trained[0])
    assert runtime.label({"rentals": 80.0}, {"rentals": 100}) == {"close": 1.0, "absolute_error": 20.0}
    assert runtime.label({"rentals": 70.0}, {"rentals": 100}) == {"close": 0.0, "absolute_error": 30.0}
    assert runtime.label({"rentals": 9.0}, {"rentals": 0})["close"] == 1.0
    with pytest.raises(DataError, match="truth"):
        runtime.label({"rentals": 80.0}, {"rentals": "many"})


def test_the_same_numbers_reach_the_model_in_training_and_in_serving(spec: FamilySpec, hours: BicycleHours) -> None:
    arrays, found = CODE.arrays(spec, hours, "test"), forecasts(hours, "test")
    one = {name: [value] for name, value in found.request(17).items()}
    features, level = feature_matrix(one)
    assert (features[0] == arrays.features[17]).all()
    assert arrays.weights is not None and level[0] == arrays.weights[17]


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["default", "keras"])
def test_both_frameworks_learn_it(hours: BicycleHours, tmp_path: Path, profile: str) -> None:
    if profile == "keras" and not importlib.util.find_spec("tensorflow"):
        pytest.skip("Keras on TensorFlow is not installed: pip install windtunnel[keras]")
    spec = load_family("demand_forecasting", profile)
    work = TrialWork(
        CODE, spec, hours, spec.hyperparameters, seed=1, threads=1, folder=tmp_path, report=lambda epoch, value: None,
        origins=Origins(),
    )  # fmt: skip
    best = load_trainer(spec).trial(work)
    naive = CODE.arrays(spec, hours, "validation")
    found = forecasts(hours, "validation")
    last_week = np.abs(np.array(found.inputs["rentals_week_before"]) - found.rentals).mean()
    assert len(naive) == len(found.ids)
    assert best < 0.9 * last_week
