"""The network of the Keras profile: standardised features, hidden layers of one width, one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from include.families.contract import Arrays
from include.families.demand_forecasting.config import Hyperparameters, ModelConfig
from include.frameworks.keras_models import keras


def build(config: ModelConfig, hyper: Hyperparameters, examples: Arrays) -> Any:
    """A compiled model of features to the share of the week's mean.

    The examples' means and spreads are variables of a layer that does not learn: as constants (Keras'
    `Normalization`) they would be lost in ONNX.
    """
    library = keras()
    mean, spread = examples.features.mean(axis=0), examples.features.std(axis=0)
    scale = (1.0 / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    width = examples.features.shape[1]
    standardise = library.layers.Dense(width, trainable=False, name="standardise")
    penalty = library.regularizers.L2(hyper.l2) if hyper.l2 else None
    hidden = [
        library.layers.Dense(hyper.size, activation="relu", kernel_regularizer=penalty, name=f"hidden_{number}")
        for number in range(config.layers)
    ]
    layers = [library.Input((width,), name="features"), standardise, *hidden, library.layers.Dense(1, name="share")]
    model = library.Sequential(layers, name="demand")
    standardise.set_weights([np.diag(scale), -mean * scale])
    model.compile(optimizer=library.optimizers.Adam(hyper.learning_rate), loss="mean_absolute_error")
    return model
