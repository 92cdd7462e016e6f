"""A family that all three frameworks can train: a number that depends on four others, and on one of them in a curve."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import DataError
from include.families.contract import Arrays, DatasetView
from include.frameworks.onnx_models import FEATURES, OPSET, OnnxModel, check_parity
from include.spec.models import FamilySpec
from include.spec.training import Framework

CODE = "tests.fakes.three_frameworks:ThreeFrameworks"
WIDTH = 4


def three_spec(framework: str, *, model: Mapping[str, Any] | None = None, **trainer: Any) -> FamilySpec:
    """A spec of the family; `model` may hold `estimator`, `pause_ms` (of each validation) and `bad_row`."""
    values: dict[str, Any] = {
        "family": "three",
        "title": "Three frameworks",
        "description": "Learns a curve.",
        "owner": {"team": "tunnel"},
        "code": CODE,
        "data": {"suite": "three", "tables": {"rows": {"key": "row_id"}}},
        "split": {"table": "rows", "by": "row_id", "train": 0.6, "validation": 0.2, "test": 0.2},
        "model": dict(model or {}),
        "hyperparameters": {"learning_rate": 0.01},
        "trainer": {
            "framework": framework, "max_epochs": 6, "batch_size": 64, "checkpoint_every_steps": 2,
            "accelerator": "auto" if framework == "sklearn" else "cpu", **trainer,
        },
        "sweep": {
            "metric": "off", "direction": "minimize", "workers": 1, "max_epochs": 3,
            "space": {"learning_rate": {"kind": "float", "low": 0.001, "high": 0.1}},
        },
        "evaluation": {"gates": [{"name": "off", "metric": "off", "operator": "lt", "threshold": 1}]},
        "release": {"stages": [{"name": "full", "traffic": 1.0, "min_seconds": 1, "max_seconds": 60}]},
    }  # fmt: skip
    return FamilySpec.model_validate(values)


class ThreeRows:
    """A dataset version without tables: the family makes its examples up."""

    def __init__(self, version: str = "1.0.0") -> None:
        self.version = self.digest = version

    def table(self, name: str, split: str | None = None) -> Any:
        raise NotImplementedError


class ThreeFrameworks:
    """Satisfies `LightningFamily`, `KerasFamily` and `SklearnFamily`, as far as training needs."""

    def arrays(self, spec: FamilySpec, dataset: DatasetView, split: str) -> Arrays:
        rng = np.random.default_rng(["train", "validation", "test"].index(split))
        features = rng.normal(size=(600 if split == "train" else 200, WIDTH)).astype(np.float32)
        targets = features @ np.array([1.0, -2.0, 0.5, 0.0], np.float32) + np.abs(features[:, 3])
        if split == "train" and "bad_row" in spec.model:
            features[spec.model["bad_row"], 2] = np.nan
        self._pause = spec.model.get("pause_ms", 0) / 1000
        return Arrays(features, targets)

    def validation_metrics(self, predicted: NDArray[np.float64], arrays: Arrays) -> dict[str, float]:
        time.sleep(self._pause)
        return {"off": float(np.abs(predicted - arrays.targets).mean())}

    # scikit-learn and Keras -----------------------------------------------------------------------------------------
    def estimator(self, spec: FamilySpec, hyperparameters: Mapping[str, Any], seed: int) -> Any:
        rate = hyperparameters["learning_rate"]
        kind = spec.model.get("estimator", "steps")
        if kind == "trees":
            from sklearn.ensemble import HistGradientBoostingRegressor as Trees

            return Trees(max_iter=24, learning_rate=rate, warm_start=True, early_stopping=False, random_state=seed)
        if kind == "forest":
            from sklearn.ensemble import RandomForestRegressor

            return RandomForestRegressor(n_estimators=12, warm_start=True, random_state=seed, max_depth=5)
        if kind == "one_go":
            from sklearn.linear_model import Ridge

            return Ridge(alpha=hyperparameters.get("alpha", 1.0))
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=rate, random_state=seed)

    def network(self, spec: FamilySpec, examples: Arrays, hyperparameters: Mapping[str, Any]) -> Any:
        from include.frameworks.keras_models import keras

        library = keras()
        layers = [
            library.Input((WIDTH,)),
            library.layers.Dense(8, activation="relu"),
            library.layers.Dropout(0.1),
            library.layers.Dense(1),
        ]
        model = library.Sequential(layers)
        model.compile(optimizer=library.optimizers.Adam(hyperparameters["learning_rate"]), loss="mean_squared_error")
        return model

    # Lightning ------------------------------------------------------------------------------------------------------
    def data_module(self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any], seed: int) -> Any:
        from tests.fakes.three_lightning import ThreeData

        train = self.arrays(spec, dataset, "train")
        if not np.isfinite(train.features).all():
            raise DataError("a feature is not finite", where="train")
        return ThreeData(train, self.arrays(spec, dataset, "validation"), spec.trainer.batch_size, seed)

    def module(self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any]) -> Any:
        from tests.fakes.three_lightning import ThreeModule

        return ThreeModule(hyperparameters["learning_rate"], spec.model.get("pause_ms", 0) / 1000)

    # Packages -------------------------------------------------------------------------------------------------------
    def export(
        self,
        spec: FamilySpec,
        dataset: DatasetView,
        hyperparameters: Mapping[str, Any],
        checkpoint: Path | None,
        folder: Path,
    ) -> dict[str, Any]:
        assert checkpoint is not None
        path, features = folder / "model.onnx", self.arrays(spec, dataset, "validation").features
        if spec.trainer.framework is Framework.SKLEARN:
            from include.frameworks.sklearn_models import export_weights

            predict = export_weights(checkpoint, WIDTH, path)
        elif spec.trainer.framework is Framework.KERAS:
            from include.frameworks.keras_models import export_weights as export_network

            train = self.arrays(spec, dataset, "train")
            predict = export_network(lambda: self.network(spec, train, hyperparameters), checkpoint, WIDTH, path)
        else:
            from tests.fakes.three_lightning import export_module

            predict = export_module(checkpoint, path, FEATURES, OPSET)
        (folder / "config.json").write_text(json.dumps({"width": WIDTH}))
        return check_parity(path, features, predict(features))

    def load(self, folder: Path) -> OnnxModel:
        return OnnxModel(folder / "model.onnx")

    def baselines(self) -> Sequence[str]:
        return ()
