"""The state of a network as a file; what Keras' own variables do in it is seen where Keras is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from include.errors import DataError
from include.frameworks.keras_models import load_state, save_state


@dataclass
class Variable:
    value: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def numpy(self) -> np.ndarray:
        return self.value

    def assign(self, value: np.ndarray) -> None:
        self.value = value


def test_single_numbers_come_back_as_matrices_do(tmp_path: Path) -> None:
    """The optimizer counts its steps in a variable without a dimension."""
    saved = [Variable(np.array(8, dtype=np.int64)), Variable(np.arange(6.0).reshape(2, 3).T), Variable(np.ones(2))]
    save_state(saved, tmp_path / "state")
    read = [Variable(np.zeros_like(variable.value)) for variable in saved]
    load_state(read, tmp_path / "state")
    for before, after in zip(saved, read, strict=True):
        assert after.value.shape == before.value.shape and (after.value == before.value).all()


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    save_state([Variable(np.ones(2))], tmp_path / "state")
    with pytest.raises(DataError, match="do not fit"):
        load_state([Variable(np.ones(3))], tmp_path / "state")
