"""scikit-learn estimators: saved and read without pickles (skops), asked for predictions, exported to ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import DataError, UserError
from include.frameworks.boosted_trees import is_boosted, save_trees
from include.frameworks.onnx_models import FEATURES, OPSET, Floats, save_model

#: Besides what skops trusts by itself, all of it compiled code or plain records of scikit-learn.
_TRUSTED = ("sklearn.", "_loss.", "numpy.")


def save_estimator(estimator: Any, path: Path) -> None:
    """Writes the estimator as it is, fitted or half fitted."""
    import skops.io

    skops.io.dump(estimator, path)


def load_estimator(path: Path) -> Any:
    """Reads what `save_estimator` wrote; nothing in the file is executed.

    Raises:
        DataError: It holds objects of kinds that are not scikit-learn's.
    """
    import skops.io

    unknown = skops.io.get_untrusted_types(file=path)
    if odd := [name for name in unknown if not name.startswith(_TRUSTED)]:
        raise DataError(f"the model holds {odd[0]}, which is not loaded", where=path.name, hint="train it again")
    return skops.io.load(path, trusted=unknown)


def predictions(estimator: Any, features: Floats) -> NDArray[np.float64]:
    """One number per row: the prediction, or a classifier's probability of its last class."""
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(features)[:, -1], dtype=np.float64)
    return np.asarray(estimator.predict(features), dtype=np.float64).reshape(len(features))


def export_estimator(estimator: Any, width: int, path: Path) -> None:
    """Writes the estimator as ONNX: `features` (n, width) -> prediction.

    Raises:
        UserError: There is no conversion of such an estimator.
    """
    if is_boosted(estimator):
        save_trees(estimator, width, path)
        return
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    try:
        model = to_onnx(
            estimator,
            initial_types=[(FEATURES, FloatTensorType([None, width]))],
            target_opset={"": OPSET, "ai.onnx.ml": 3},
            options=options,
        )
    except (MissingConverter, MissingShapeCalculator, NotImplementedError) as error:
        raise UserError(
            f"{type(estimator).__name__} cannot be exported to ONNX: {error}",
            where="model",
            hint="choose an estimator that skl2onnx converts",
        ) from error
    save_model(model, path)


def export_weights(weights: Path, width: int, path: Path) -> Callable[[Floats], NDArray[np.float64]]:
    """Writes a saved estimator as ONNX; returns what predicts in scikit-learn."""
    estimator = load_estimator(weights)
    export_estimator(estimator, width, path)
    return lambda features: predictions(estimator, features)
