"""A family that trains within a second: a network with one hidden layer, whose width costs time to serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

from include.spec.models import FamilySpec

FAMILY = "wide"
CODE = "tests.fakes.wide_family:WideFamily"
WEIGHTS = "weights.npz"
_SIZES = {"train": 256, "validation": 128, "test": 128}


class WideDataset:
    """Points of the plane; those inside of a ring are positive. Satisfies `DatasetView`."""

    version = "1.0.0"
    digest = "d" * 64

    def table(self, name: str, split: str | None = None) -> pa.Table:
        split = split or "test"
        points = np.random.default_rng(len(split)).uniform(-1.5, 1.5, (_SIZES[split], 2))
        inside = (np.linalg.norm(points, axis=1) < 1.0).astype(np.float32)
        return pa.table(
            {"id": [f"{split}-{n}" for n in range(len(points))], "x": points[:, 0], "y": points[:, 1], "inside": inside}
        )


class Wide(lightning.LightningModule):
    """One hidden layer of `width`."""

    def __init__(self, hyperparameters: Mapping[str, Any]) -> None:
        super().__init__()
        width = int(hyperparameters["width"])
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
        self.rate = float(hyperparameters["learning_rate"])

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        points, inside = batch
        return torch.nn.functional.binary_cross_entropy_with_logits(self.layers(points)[:, 0], inside)

    def validation_step(self, batch: Any, index: int) -> None:
        points, inside = batch
        right = ((self.layers(points)[:, 0] > 0) == (inside > 0.5)).float().mean()
        self.log("accuracy", right, on_epoch=True)
        self.log("parameters", float(sum(parameter.numel() for parameter in self.parameters())), on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.rate)


class WideData(lightning.LightningDataModule):
    """The ring's points as tensors."""

    def __init__(self, dataset: WideDataset, batch_size: int, seed: int) -> None:
        super().__init__()
        self._dataset, self._batch_size, self._seed = dataset, batch_size, seed

    def _loader(self, split: str) -> DataLoader[Any]:
        table = self._dataset.table("points", split)
        points = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1).astype(np.float32)
        data = TensorDataset(torch.from_numpy(points), torch.tensor(table["inside"].to_numpy()))
        shuffle = torch.Generator().manual_seed(self._seed)
        return DataLoader(data, self._batch_size, shuffle=split == "train", generator=shuffle)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("validation")


class WideRuntime:
    """The network in numpy; satisfies `ModelRuntime`."""

    inputs: Mapping[str, str] = {"x": "FP32", "y": "FP32"}
    outputs: Mapping[str, str] = {"inside": "FP32"}

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._weights = weights

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        points = np.stack([np.asarray(inputs["x"]), np.asarray(inputs["y"])], axis=1)
        hidden = np.tanh(points @ self._weights["layers.0.weight"].T + self._weights["layers.0.bias"])
        return {"inside": (hidden @ self._weights["layers.2.weight"].T + self._weights["layers.2.bias"])[:, 0].tolist()}

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        return {"inside": outputs["inside"][index] > 0}


class WideFamily:
    """Satisfies the parts of `Family` that sweeps and serving use."""

    def data_module(self, spec: FamilySpec, dataset: WideDataset, hyperparameters: Any, seed: int) -> WideData:
        return WideData(dataset, spec.trainer.batch_size, seed)

    def module(self, spec: FamilySpec, dataset: WideDataset, hyperparameters: Mapping[str, Any]) -> Wide:
        return Wide(hyperparameters)

    def export(
        self, spec: FamilySpec, dataset: WideDataset, hyperparameters: Any, checkpoint: Path | None, folder: Path
    ) -> dict[str, Any]:
        assert checkpoint is not None
        weights = {name: value.numpy() for name, value in load_file(checkpoint).items()}
        np.savez(folder / WEIGHTS, **weights)
        return {}

    def load(self, folder: Path) -> WideRuntime:
        with np.load(folder / WEIGHTS) as weights:
            return WideRuntime({name: weights[name] for name in weights.files})

    def requests(self, dataset: WideDataset, split: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        for row in dataset.table("points", split).to_pylist():
            yield row["id"], {"x": row["x"], "y": row["y"]}, {"inside": row["inside"]}


def wide_spec(**sweep: Any) -> FamilySpec:
    """A valid spec of the family; `sweep` over a sweep of two trials."""
    space = {
        "learning_rate": {"kind": "float", "low": 0.003, "high": 0.1, "log": True},
        "width": {"kind": "int", "low": 2, "high": 2048, "log": True},
    }
    return FamilySpec.model_validate(
        {
            "family": FAMILY,
            "title": "Inside of a ring",
            "description": "Tells points inside of a ring from those outside.",
            "owner": {"team": "tunnel"},
            "code": CODE,
            "data": {"suite": "wide", "tables": {"points": {"key": "id"}}},
            "split": {"table": "points", "by": "id", "train": 0.5, "validation": 0.25, "test": 0.25},
            "hyperparameters": {"learning_rate": 0.01, "width": 16},
            "trainer": {"batch_size": 32, "accelerator": "cpu"},
            "sweep": {"metric": "accuracy", "trials": 2, "workers": 1, "space": space} | sweep,
            "evaluation": {
                "gates": [{"name": "floor", "metric": "accuracy", "operator": "gte", "threshold": 0.5}],
            },
            "release": {
                "bootstrap": "none",
                "stages": [
                    {"name": "shadow", "traffic": 0, "shadow": True, "min_seconds": 1, "max_seconds": 60},
                    {"name": "full", "traffic": 1.0, "min_seconds": 1, "max_seconds": 60},
                ],
            },
        }
    )
