"""What is frozen does not move by a bit, what is unfrozen does, and both processes of a DDP run move together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from include.errors import UserError
from include.training.callbacks import seed_all
from include.training.freezing import freeze, moving_names, weight_names
from include.training.process_group import process_group
from include.training.ranks import Rank, run_ranks
from include.training.worker import make_trainer
from tests.fakes.tiny_torch import TinyModule, TinyPoints, TinyTorch, torch_spec

STAGES = {
    "learn_only": ["kind.*", "amount.*"],
    "unfreeze": [
        {"after_epochs": 1, "parameters": ["trunk.4.*"]},
        {"after_steps": 14, "parameters": ["trunk.[01].*"]},
    ],
}


class Snapshots(Callback):
    """Seeds every batch, and keeps the state after every step; index 0 is before the first."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.losses: list[float] = []
        self.learning: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed_all(1, trainer.current_epoch, batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.losses.append(float(trainer.callback_metrics["loss"]))

    def _keep(self, module: LightningModule) -> None:
        self.states.append({name: value.detach().clone() for name, value in module.state_dict().items()})
        self.learning.append(sum(parameter.requires_grad for parameter in module.parameters()))

    def moved(self, name: str) -> list[int]:
        """Steps (from 1) that changed what is called `name`."""
        values = [state[name] for state in self.states]
        return [i for i in range(1, len(values)) if not torch.equal(values[i], values[i - 1])]


def build(**trainer: Any) -> tuple[TinyModule, Any]:
    spec = torch_spec(**trainer)
    seed_all(1)
    module = TinyTorch().module(spec, TinyPoints(), spec.hyperparameters)
    freeze(module, spec.trainer.transfer)
    return module, spec


def train(folder: Path, devices: int = 1, **trainer: Any) -> Snapshots:
    module, spec = build(devices=devices, **trainer)
    watch = Snapshots()
    data = TinyTorch().data_module(spec, TinyPoints(), spec.hyperparameters, 1)
    make_trainer(spec, [watch], devices=devices, folder=folder).fit(module, datamodule=data)
    return watch


def test_what_is_frozen_is_the_same_to_the_last_bit_with_its_batch_norm(tmp_path: Path) -> None:
    watch = train(tmp_path, transfer={"learn_only": ["kind.*", "amount.*"]})
    assert watch.learning == [4] * 19
    moved = {name for name in watch.states[0] if watch.moved(name)}
    assert moved == {"kind.weight", "kind.bias", "amount.weight", "amount.bias"}


def test_layers_begin_to_learn_at_their_epoch_and_step_and_not_before(tmp_path: Path) -> None:
    watch = train(tmp_path, transfer=STAGES, max_epochs=3)  # six steps an epoch
    assert watch.learning[1:] == [4] * 6 + [6] * 8 + [10] * 4
    assert watch.moved("kind.weight")[0] == 1
    assert watch.moved("trunk.4.weight")[0] == 7
    assert watch.moved("trunk.0.weight")[0] == 15
    assert watch.moved("trunk.1.weight")[0] == 15
    assert watch.moved("trunk.1.running_mean")[0] == 15  # a frozen batch norm gathers nothing


def test_a_step_that_is_accumulated_unfreezes_between_optimizer_steps(tmp_path: Path) -> None:
    watch = train(tmp_path, transfer=STAGES, batch_size=8, accumulate_grad_batches=2)
    assert watch.moved("trunk.0.weight")[0] == 30  # the second batch of the fifteenth step


class Trains:
    """What each of two processes does; the end of its weights is left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, rank: Rank) -> None:
        with process_group(rank):
            watch = train(rank.scratch, devices=2, transfer=STAGES, max_epochs=3)
        save_file(watch.states[-1], self.folder / f"{rank.number}.safetensors")
        (self.folder / f"{rank.number}.txt").write_text(f"{watch.moved('trunk.0.weight')[0]} {watch.losses}")


def test_both_processes_stay_together_after_unfreezing(tmp_path: Path) -> None:
    run_ranks(Trains(tmp_path), 2, 1, tmp_path)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    for name in dict(build()[0].named_parameters()):
        assert torch.equal(first[name], second[name]), name
    one, other = ((tmp_path / f"{rank}.txt").read_text() for rank in (0, 1))
    assert one == other  # the losses as well, though each has seen other batches: a batch norm is the first one's
    assert one.startswith("15 ")


def test_a_checkpoint_holds_what_learns_now_or_later_and_weights_hold_all(tmp_path: Path) -> None:
    module, _ = build(transfer={"freeze": ["trunk.*"], "unfreeze": [{"after_epochs": 1, "parameters": ["trunk.4.*"]}]})
    buffers = {name for name in module.state_dict() if "running" in name or "tracked" in name}
    heads = {f"{head}.{part}" for head in ("kind", "amount") for part in ("weight", "bias")}
    assert moving_names(module) == buffers | heads | {"trunk.4.weight", "trunk.4.bias"}
    assert weight_names(module) == set(module.state_dict())


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ({"freeze": ["trnk.*"]}, "no parameter is called 'trnk.*'"),
        ({"rates": [{"parameters": ["head.*"], "factor": 0.1}]}, "no parameter is called 'head.*'"),
        ({"freeze": ["*"]}, "nothing is left to learn"),
        (
            {"freeze": ["trunk.*"], "unfreeze": [{"after_epochs": 1, "parameters": ["kind.*"]}]},
            "nothing of that is frozen",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_before_training(transfer: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("*", r"\*")):
        build(transfer=transfer)


def test_what_the_family_froze_stays_frozen() -> None:
    module = TinyTorch().module(torch_spec(), TinyPoints(), {})
    module.trunk.requires_grad_(False)
    spec = torch_spec(transfer={"freeze": ["amount.*"], "unfreeze": [{"after_epochs": 1, "parameters": ["trunk.*"]}]})
    with pytest.raises(UserError, match="nothing of that is frozen"):
        freeze(module, spec.trainer.transfer)


@pytest.mark.parametrize(
    "transfer",
    [
        {"unfreeze": [{"after_epochs": 1, "parameters": ["a"]}]},
        {"freeze": ["a"], "unfreeze": [{"after_epochs": 1, "after_steps": 1, "parameters": ["a"]}]},
        {"freeze": ["a"], "unfreeze": [{"parameters": ["a"]}]},
        {
            "freeze": ["a"],
            "unfreeze": [{"after_epochs": 2, "parameters": ["a"]}, {"after_epochs": 1, "parameters": ["b"]}],
        },
        {"init_parameters": ["a"]},
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(transfer: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        torch_spec(transfer=transfer)
