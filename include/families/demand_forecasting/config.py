"""What `model` and `hyperparameters` in the spec may say. Imported when DAG files are parsed: pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Part):
    """What predicts.

    Attributes:
        estimator: With scikit-learn: `boosted_trees` grows over the epochs to `trees`; `linear` is fitted in one go.
        trees: Of `boosted_trees`, when it is done.
        layers: Hidden layers, with Keras.
    """

    estimator: Literal["boosted_trees", "linear"] = "boosted_trees"
    trees: Annotated[int, Field(ge=1, le=10_000)] = 200
    layers: Annotated[int, Field(ge=1, le=8)] = 2


class Hyperparameters(_Part):
    """What the sweep may search, the same names for both frameworks.

    Attributes:
        learning_rate: Of boosting, or of Adam.
        size: Leaves of a tree, or units of a layer.
        l2: Penalty on leaves, weights or coefficients.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    size: Annotated[int, Field(ge=2, le=4096)] = 31
    l2: Annotated[float, Field(ge=0)] = 0.0
