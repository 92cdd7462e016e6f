"""Forecasts from a model package (`model.onnx`, `config.json`), without the framework that trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import DataError
from include.families.demand_forecasting.features import EXAMPLE, INPUTS, feature_matrix
from include.frameworks.onnx_models import OnnxModel

MODEL, CONFIG = "model.onnx", "config.json"
#: A forecast is close if it is off by at most so many rentals, or by this share of the truth.
CLOSE, CLOSE_SHARE = 10.0, 0.25


class ForecastRuntime:
    """A loaded package; see `include.families.contract.ModelRuntime`."""

    inputs: Mapping[str, str] = INPUTS
    outputs: Mapping[str, str] = {"rentals": "FP32"}
    example: Mapping[str, Any] = EXAMPLE

    def __init__(self, folder: Path) -> None:
        self._model = OnnxModel(folder / MODEL)

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Rentals in each hour, 0 at least. Raises `DataError` for an input out of its range."""
        shares, level = feature_matrix(inputs)
        rentals = np.maximum(self._model.predict(shares) * level, 0.0)
        return {"rentals": [round(float(value), 3) for value in rentals]}

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        """`rentals`, as a record."""
        return {"rentals": outputs["rentals"][index]}

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        """`close` and `absolute_error` of an answer record, given `{"rentals": number}`.

        Raises:
            DataError: The truth names no number.
        """
        told = truth.get("rentals")
        if isinstance(told, bool) or not isinstance(told, (int, float)) or not np.isfinite(told):
            raise DataError("the truth must tell the rentals", where="truth.rentals", hint='send {"rentals": 120}')
        found = errors(np.array([record["rentals"]]), np.array([told]))
        return {name: float(found[name][0]) for name in ("close", "absolute_error")}


def errors(predicted: NDArray[np.float64], rentals: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Per forecast: `absolute_error`, `squared_error` (in rentals) and `close`, shape (n,)."""
    off = np.abs(predicted - rentals)
    close = off <= np.maximum(CLOSE, CLOSE_SHARE * rentals)
    return {"absolute_error": off, "squared_error": off**2, "close": close.astype(np.float64)}
