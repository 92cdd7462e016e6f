"""scikit-learn estimators as files: what is saved without pickles goes on as it was, and ONNX predicts the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge, SGDRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from include.errors import DataError, UserError
from include.frameworks.boosted_trees import _rounded_down
from include.frameworks.onnx_models import OnnxModel, ParityError, check_parity
from include.frameworks.sklearn_models import export_weights, load_estimator, predictions, save_estimator

_RNG = np.random.default_rng(0)
X = np.round(_RNG.normal(size=(400, 5)), 2).astype(np.float32)  # values repeat, so that some stand on a threshold
Y = np.maximum(np.abs(X[:, 0]) + X[:, 1] * X[:, 2] + 3, 0).astype(np.float32)

REGRESSORS = [
    HistGradientBoostingRegressor(max_iter=30, random_state=0),
    HistGradientBoostingRegressor(max_iter=30, loss="absolute_error", random_state=0),
    HistGradientBoostingRegressor(max_iter=30, loss="poisson", random_state=0),
    GradientBoostingRegressor(n_estimators=20, random_state=0),
    RandomForestRegressor(n_estimators=5, random_state=0),
    make_pipeline(StandardScaler(), Ridge()),
    MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0),
]
CLASSIFIERS = [HistGradientBoostingClassifier(max_iter=20, random_state=0), LogisticRegression()]


def _name(estimator: Any) -> str:
    return f"{type(estimator).__name__}-{getattr(estimator, 'loss', '')}"


@pytest.mark.parametrize("estimator", [*REGRESSORS, *CLASSIFIERS], ids=_name)
def test_the_export_predicts_as_the_estimator(tmp_path: Path, estimator: Any) -> None:
    estimator.fit(X, Y > 3 if estimator in CLASSIFIERS else Y)
    save_estimator(estimator, tmp_path / "best.skops")
    predict = export_weights(tmp_path / "best.skops", X.shape[1], tmp_path / "model.onnx")
    assert (predict(X) == predictions(estimator, X)).all()
    facts = check_parity(tmp_path / "model.onnx", X, predictions(estimator, X))
    assert facts["parity_max_abs_difference"] < 1e-4
    assert np.ptp(predict(X)) > 0.1


def test_the_same_estimator_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_estimator(HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(X, Y), tmp_path / name)
        export_weights(tmp_path / name, X.shape[1], tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_missing_features_go_the_way_they_learned(tmp_path: Path) -> None:
    holes = X.copy()
    holes[::3, 0] = np.nan
    trees = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(holes, Y)
    save_estimator(trees, tmp_path / "best.skops")
    export_weights(tmp_path / "best.skops", X.shape[1], tmp_path / "model.onnx")
    assert OnnxModel(tmp_path / "model.onnx").predict(holes) == pytest.approx(trees.predict(holes), abs=1e-4)


def test_thresholds_are_rounded_so_that_no_feature_changes_sides() -> None:
    thresholds = np.array([0.1, 1 / 3, -0.1, 1e300, 0.0])
    rounded = _rounded_down(thresholds)
    assert (rounded.astype(np.float64) <= thresholds).all()
    assert (np.nextafter(rounded[:3], np.float32(np.inf)).astype(np.float64) > thresholds[:3]).all()


@pytest.mark.parametrize(
    "estimator", [SGDRegressor(random_state=0), MLPRegressor(hidden_layer_sizes=(4,), random_state=0)], ids=_name
)
def test_what_is_saved_half_fitted_goes_on_as_it_was(tmp_path: Path, estimator: Any) -> None:
    estimator.partial_fit(X, Y)
    save_estimator(estimator, tmp_path / "state")
    again = load_estimator(tmp_path / "state")
    for one in (estimator, again):
        one.partial_fit(X, Y)
    assert (again.predict(X) == estimator.predict(X)).all()


def test_another_model_is_noticed(tmp_path: Path) -> None:
    save_estimator(Ridge().fit(X, Y), tmp_path / "best.skops")
    predict = export_weights(tmp_path / "best.skops", X.shape[1], tmp_path / "model.onnx")
    with pytest.raises(ParityError, match=r"ONNX differs from the trained model by 0\.5"):
        check_parity(tmp_path / "model.onnx", X, predict(X) + 0.5)
    with pytest.raises(ParityError):
        check_parity(tmp_path / "model.onnx", X, np.full(len(X), np.nan))


def test_code_in_a_saved_model_is_not_run(tmp_path: Path) -> None:
    save_estimator({"bad": Path("x")}, tmp_path / "state")
    with pytest.raises(DataError, match="pathlib"):
        load_estimator(tmp_path / "state")


def test_what_cannot_be_exported_is_an_error_of_the_user(tmp_path: Path) -> None:
    save_estimator(DBSCAN().fit(X), tmp_path / "best.skops")
    with pytest.raises(UserError, match="DBSCAN cannot be exported to ONNX"):
        export_weights(tmp_path / "best.skops", X.shape[1], tmp_path / "model.onnx")
    many = HistGradientBoostingClassifier(max_iter=2).fit(X, np.digitize(Y, [2, 4]))
    save_estimator(many, tmp_path / "many.skops")
    with pytest.raises(UserError, match="cannot be exported"):
        export_weights(tmp_path / "many.skops", X.shape[1], tmp_path / "model.onnx")
