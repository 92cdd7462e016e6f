"""The model side of the family: training with either framework, packages, evaluation. Heavy imports wait for a call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import UserError
from include.families.contract import Arrays, DatasetView, Examples, ModelRuntime
from include.families.demand_forecasting.config import Hyperparameters, ModelConfig
from include.families.demand_forecasting.features import COLUMNS, LAGS, WIDTH, feature_matrix
from include.families.demand_forecasting.history import forecasts
from include.families.demand_forecasting.runtime import CONFIG, MODEL, ForecastRuntime, errors
from include.spec.models import FamilySpec
from include.spec.training import Framework

#: Baseline -> the feature that it predicts as it is.
NAIVE = {"day_before": f"{LAGS[24]}_share", "week_before": f"{LAGS[168]}_share"}
_EVALUATE_ROWS = 1024


class ModelPart:
    """Trains, exports, loads and evaluates; see `include.families.contract`."""

    # Training -------------------------------------------------------------------------------------------------------
    def arrays(self, spec: FamilySpec, dataset: DatasetView, split: str) -> Arrays:
        """Shares of the week's mean, each weighted by that mean: their weighted error is one in rentals."""
        found = forecasts(dataset, split)
        features, level = feature_matrix(found.inputs)
        return Arrays(features, (found.rentals / level).astype(np.float32), level)

    def validation_metrics(self, predicted: NDArray[np.float64], arrays: Arrays) -> dict[str, float]:
        """Means of what `evaluate` gives per example."""
        level = arrays.weights if arrays.weights is not None else np.ones(len(arrays), dtype=np.float32)
        found = errors(np.maximum(predicted * level, 0.0), arrays.targets.astype(np.float64) * level)
        return {name: float(values.mean()) for name, values in found.items()}

    def estimator(self, spec: FamilySpec, hyperparameters: Mapping[str, Any], seed: int) -> Any:
        config, hyper = ModelConfig.model_validate(spec.model), Hyperparameters.model_validate(hyperparameters)
        if config.estimator == "linear":
            from sklearn.linear_model import Ridge

            return Ridge(alpha=hyper.l2, random_state=seed)
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=config.trees,
            learning_rate=hyper.learning_rate,
            max_leaf_nodes=hyper.size,
            l2_regularization=hyper.l2,
            early_stopping=False,
            warm_start=True,
            random_state=seed,
        )

    def network(self, spec: FamilySpec, examples: Arrays, hyperparameters: Mapping[str, Any]) -> Any:
        from include.families.demand_forecasting.network import build

        return build(ModelConfig.model_validate(spec.model), Hyperparameters.model_validate(hyperparameters), examples)

    # Packages -------------------------------------------------------------------------------------------------------
    def export(
        self,
        spec: FamilySpec,
        dataset: DatasetView,
        hyperparameters: Mapping[str, Any],
        checkpoint: Path | None,
        folder: Path,
    ) -> dict[str, Any]:
        """Before training, what is known is the median share of training."""
        from include.frameworks.onnx_models import check_parity, save_constant

        path, framework = folder / MODEL, spec.trainer.framework
        if checkpoint is None:
            save_constant(path, WIDTH, float(np.median(self.arrays(spec, dataset, "train").targets)))
            return _described(folder, spec, "untrained")
        if framework is Framework.SKLEARN:
            from include.frameworks.sklearn_models import export_weights

            predict = export_weights(checkpoint, WIDTH, path)
        else:
            from include.frameworks.keras_models import export_weights as export_network_weights

            train = self.arrays(spec, dataset, "train")
            predict = export_network_weights(
                lambda: self.network(spec, train, hyperparameters), checkpoint, WIDTH, path
            )
        validation = self.arrays(spec, dataset, "validation")
        facts = check_parity(path, validation.features, predict(validation.features))
        return {**facts, **_described(folder, spec, framework.value)}

    def export_baseline(self, name: str, spec: FamilySpec, dataset: DatasetView, folder: Path) -> dict[str, Any]:
        from include.frameworks.onnx_models import save_column

        if name not in NAIVE:
            raise UserError(f"there is no baseline {name!r}", hint=f"known: {', '.join(self.baselines())}")
        save_column(folder / MODEL, WIDTH, COLUMNS.index(NAIVE[name]))
        return _described(folder, spec, name)

    def baselines(self) -> Sequence[str]:
        return tuple(NAIVE)

    # Evaluation and serving -----------------------------------------------------------------------------------------
    def load(self, folder: Path) -> ModelRuntime:
        return ForecastRuntime(folder)

    def evaluate(self, runtime: ModelRuntime, dataset: DatasetView, split: str) -> Examples:
        """Per hour: `absolute_error`, `squared_error` and `close`; the mean of the second is the RMSE squared."""
        found = forecasts(dataset, split)
        predicted: list[float] = []
        for start in range(0, len(found.ids), _EVALUATE_ROWS):
            part = {name: values[start : start + _EVALUATE_ROWS] for name, values in found.inputs.items()}
            predicted += runtime.predict(part)["rentals"]
        slices = {"weather": list(found.inputs["weather"]), "hour": [f"{hour:02d}" for hour in found.inputs["hour"]]}
        return Examples(found.ids, errors(np.array(predicted), found.rentals), slices)

    def requests(self, dataset: DatasetView, split: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        found = forecasts(dataset, split)
        for index, identity in enumerate(found.ids):
            yield identity, found.request(index), {"rentals": float(found.rentals[index])}


def _described(folder: Path, spec: FamilySpec, made_by: str) -> dict[str, Any]:
    record = {"format": 1, "made_by": made_by, "model": spec.model}
    (folder / CONFIG).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return {"made_by": made_by}
