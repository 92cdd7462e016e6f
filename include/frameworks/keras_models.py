"""Keras models on TensorFlow: their whole state as safetensors, and their export to ONNX.

Needs the extra `keras`. Keras reads which backend it runs on when it is imported for the first time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from include.errors import DataError, UserError
from include.frameworks.onnx_models import FEATURES, OPSET, Floats, save_model

_PREDICT_ROWS = 4096


def keras() -> Any:
    """The library, on TensorFlow.

    Raises:
        UserError: It is not installed, or was imported on another backend before.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import keras as library
        import tensorflow  # noqa: F401 - the backend: its absence should be told here
    except ImportError as error:
        raise UserError(
            f"Keras on TensorFlow is not installed: {error}",
            where="trainer.framework",
            hint="install the extra: pip install windtunnel[keras]; in production, the image with Keras",
        ) from error
    if library.backend.backend() != "tensorflow":
        raise UserError(f"Keras runs on {library.backend.backend()} here", hint="set KERAS_BACKEND=tensorflow")
    return library


def save_state(variables: list[Any], path: Path) -> None:
    """Writes the values of the variables, in their order."""
    values = {f"{number:04d}": np.asarray(variable.numpy(), order="C") for number, variable in enumerate(variables)}
    save_file(values, path)


def load_state(variables: list[Any], path: Path) -> None:
    """Assigns what `save_state` wrote.

    Raises:
        DataError: The file is of other variables.
    """
    values = load_file(path)
    if [values[name].shape for name in sorted(values)] != [tuple(variable.shape) for variable in variables]:
        raise DataError(
            "the weights do not fit the network", where=path.name, hint="was `model` changed since the training?"
        )
    for variable, name in zip(variables, sorted(values), strict=True):
        variable.assign(values[name])


def predictions(model: Any, features: Floats) -> NDArray[np.float64]:
    """One number per row."""
    parts = [
        np.asarray(model.predict_on_batch(features[start : start + _PREDICT_ROWS]), dtype=np.float64).reshape(-1)
        for start in range(0, len(features), _PREDICT_ROWS)
    ]
    return np.concatenate(parts)


def export_network(model: Any, width: int, path: Path) -> None:
    """Writes the network as ONNX: `features` (n, width) -> prediction. What it holds must be variables: constants that
    a layer keeps outside of them (as `Normalization` does) are lost on the way, and that is refused.

    Raises:
        UserError: It holds such constants.
    """
    import onnx
    import tensorflow

    signature = [tensorflow.TensorSpec((None, width), tensorflow.float32, name=FEATURES)]
    model.export(str(path), format="onnx", verbose=False, input_signature=signature, opset_version=OPSET)
    made = onnx.load(str(path))
    names = [given.name for given in made.graph.input]
    if len(names) != 1:
        raise UserError(f"the network holds constants that are no variables: {names[1:]}", where="model")
    _rename_input(made, names[0])
    made.doc_string = made.producer_version = ""
    save_model(made, path)


def export_weights(
    build: Callable[[], Any], weights: Path, width: int, path: Path
) -> Callable[[Floats], NDArray[np.float64]]:
    """Writes a network with saved weights as ONNX, in single precision; returns what predicts in Keras.

    Args:
        build: Makes the network.
    """
    library = keras()
    library.utils.clear_session()  # names of layers, and so the bytes of the model, start anew
    library.config.set_dtype_policy("float32")
    model = build()
    load_state(model.weights, weights)
    export_network(model, width, path)
    return lambda features: predictions(model, features)


def _rename_input(model: Any, name: str) -> None:
    model.graph.input[0].name = FEATURES
    for node in model.graph.node:
        for position, given in enumerate(node.input):
            if given == name:
                node.input[position] = FEATURES
