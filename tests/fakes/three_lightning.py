"""The Lightning parts of `three_frameworks`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from include.families.contract import Arrays


class _Batches:
    def __init__(self, data: ThreeData) -> None:
        self._data = data

    def __len__(self) -> int:
        return math.ceil(len(self._data.train) / self._data.size)

    def __iter__(self) -> Any:
        data, trainer = self._data, self._data.trainer
        assert trainer is not None
        done = int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        order = np.random.default_rng((data.seed, trainer.current_epoch)).permutation(len(data.train))
        for start in range(done * data.size, len(order), data.size):
            yield data.tensors(data.train.rows(order[start : start + data.size]))


class ThreeData(LightningDataModule):
    """Batches in an order that seed and epoch decide."""

    def __init__(self, train: Arrays, validation: Arrays, size: int, seed: int) -> None:
        super().__init__()
        self.train, self.validation, self.size, self.seed = train, validation, size, seed

    def train_dataloader(self) -> Any:
        return _Batches(self)

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader([self.tensors(self.validation)], batch_size=None)

    @staticmethod
    def tensors(arrays: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(arrays.features), torch.from_numpy(arrays.targets)


class ThreeModule(LightningModule):
    """A small network."""

    def __init__(self, rate: float, pause: float) -> None:
        super().__init__()
        self.layers = network()
        self._rate, self._pause = rate, pause

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.mse_loss(self.layers(batch[0])[:, 0], batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        time.sleep(self._pause)
        self.log("off", (self.layers(batch[0])[:, 0] - batch[1]).abs().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self._rate)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))


def export_module(
    weights: Path, path: Path, name: str, opset: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Writes the trained network as ONNX; returns what predicts in torch."""
    layers = network().eval()
    state = load_file(weights)
    layers.load_state_dict({key.removeprefix("layers."): value for key, value in state.items()})
    torch.onnx.export(
        layers, (torch.zeros(2, 4),), str(path), input_names=[name], output_names=["prediction"],
        dynamic_axes={name: {0: "n"}, "prediction": {0: "n"}}, opset_version=opset, dynamo=False,
    )  # fmt: skip
    with torch.no_grad():
        return lambda features: layers(torch.from_numpy(features)).detach().double().numpy()[:, 0]
