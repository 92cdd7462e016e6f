"""The spec's optimizer, clipping, precision and schedules on a real module: what Lightning does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from pydantic import ValidationError

from include.training.callbacks import seed_all
from include.training.optimizing import Plateau, parameter_groups
from include.training.worker import make_trainer
from tests.fakes.tiny_torch import TinyModule, TinyPoints, TinyTorch, torch_spec

_DTYPES = {"32-true": torch.float32, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class Watch(Callback):
    """Seeds every batch, and keeps the learning rates and the gradients that each step saw."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.norms: list[float] = []
        self.largest: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed_all(1, trainer.current_epoch, batch_idx)

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            self.norms.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))))
            self.largest.append(max(float(g.abs().max()) for g in gradients))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def train(folder: Path, **trainer: Any) -> tuple[TinyModule, Watch, Trainer]:
    """Trains the tiny module as the spec says."""
    spec, family, watch = torch_spec(**trainer), TinyTorch(), Watch()
    seed_all(1)
    module = family.module(spec, TinyPoints(), spec.hyperparameters)
    made = make_trainer(spec, [watch], devices=1, folder=folder)
    made.fit(module, datamodule=family.data_module(spec, TinyPoints(), spec.hyperparameters, 1))
    return module, watch, made


@pytest.mark.parametrize("precision", _DTYPES)
def test_every_precision_learns_and_is_what_was_asked_for(precision: str, tmp_path: Path) -> None:
    seen = set[torch.dtype]()
    with torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, output: seen.add(output.dtype) if isinstance(module, torch.nn.Linear) else None
    ):
        module, _, trainer = train(tmp_path, precision=precision, max_epochs=8)
    assert seen == {_DTYPES[precision]}
    validation = TinyPoints().points("validation", 48)
    untrained = TinyTorch().module(torch_spec(), TinyPoints(), {}).losses(validation)[0]
    assert float(trainer.callback_metrics["loss"]) < 0.8 * sum(float(loss.detach()) for loss in untrained.values())
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    assert (scaler is not None) is (precision == "16-mixed")
    if scaler is not None:
        assert scaler.get_scale() > 1.0
        assert trainer.strategy.precision_plugin.state_dict()["scale"] == scaler.get_scale()
    assert all(parameter.dtype is torch.float32 for parameter in module.parameters())


@pytest.mark.parametrize("precision", _DTYPES)
def test_gradients_are_clipped_by_norm_or_by_value(precision: str, tmp_path: Path) -> None:
    basics = {"precision": precision, "max_epochs": 1}
    _, free, _ = train(tmp_path, **basics, gradient_clip_norm=0)
    assert max(free.norms) > 0.1
    _, by_norm, _ = train(tmp_path, **basics, gradient_clip_norm=0.1)
    assert max(by_norm.norms) == pytest.approx(0.1, rel=1e-3)
    _, by_value, _ = train(tmp_path, **basics, gradient_clip_norm=0, gradient_clip_value=0.01)
    assert max(by_value.largest) == pytest.approx(0.01, rel=1e-3)


def test_both_ways_to_clip_are_refused() -> None:
    with pytest.raises(ValidationError, match="set gradient_clip_norm to 0"):
        torch_spec(gradient_clip_value=0.1)


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [({"kind": "adamw"}, "AdamW"), ({"kind": "adam"}, "Adam"), ({"kind": "sgd", "nesterov": True}, "SGD")],
)
def test_the_optimizer_is_the_specs_and_matrices_alone_decay(
    optimizer: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    module, _, trainer = train(tmp_path, optimizer={**optimizer, "weight_decay": 0.1}, max_epochs=1)
    made = trainer.optimizers[0]
    assert type(made).__name__ == kind
    groups = made.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))


def test_a_schedule_steps_with_the_optimizer_and_not_with_the_batches(tmp_path: Path) -> None:
    _, one, trainer = train(tmp_path, scheduler={"kind": "linear", "warmup_share": 0.34})
    assert trainer.global_step == 18
    _, many, trainer = train(
        tmp_path, scheduler={"kind": "linear", "warmup_share": 0.34}, batch_size=8, accumulate_grad_batches=2
    )
    assert trainer.global_step == 18
    assert many.rates[1::2] == one.rates
    assert one.rates[4][0] == pytest.approx(0.02)  # the sixth of 18 steps is the last that warms up
    assert one.rates[-1][0] == pytest.approx(0.0)


def test_a_plateau_lowers_the_rate_down_to_its_floor_after_the_warm_up(tmp_path: Path) -> None:
    plateau = {"kind": "plateau", "patience": 0, "min_delta": 100.0, "factor": 0.5, "floor": 0.2, "warmup_share": 0.2}
    _, watch, _ = train(tmp_path, scheduler=plateau, max_epochs=5)
    rates = [rate[0] for rate in watch.rates]  # after each step, of six in an epoch
    assert rates[:6] == pytest.approx([0.02 * (step + 2) / 6 for step in range(5)] + [0.02])
    assert [rates[6 * epoch + 1] for epoch in (1, 2, 3, 4)] == pytest.approx([0.02, 0.01, 0.005, 0.004])


def test_a_plateau_goes_on_from_its_state() -> None:
    spec = torch_spec(scheduler={"kind": "plateau"})
    callback = Plateau(spec, spec.trainer.scheduler)  # type: ignore[arg-type]
    callback.load_state_dict({"plateaus": [{"num_bad_epochs": 2, "best": 0.5}]})
    module = TinyTorch().module(spec, TinyPoints(), spec.hyperparameters)

    class FakeTrainer:
        optimizers = [torch.optim.SGD(module.parameters(), lr=0.1)]

    callback.on_train_start(FakeTrainer(), module)  # type: ignore[arg-type]
    assert callback.state_dict()["plateaus"][0]["num_bad_epochs"] == 2


def test_rates_by_name_keep_their_share_through_the_schedule(tmp_path: Path) -> None:
    rates = [{"parameters": ["trunk.0.*"], "factor": 0.1}, {"parameters": ["trunk.*"], "factor": 0.5}]
    spec = torch_spec(transfer={"rates": rates})
    groups = parameter_groups(TinyTorch().module(spec, TinyPoints(), {}), spec.trainer, 1.0, 0.0)
    assert [group["lr"] for group in groups] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]
    assert [len(group["params"]) for group in groups] == [2, 2, 1, 3, 1, 1]
    _, watch, _ = train(tmp_path, transfer={"rates": rates}, max_epochs=1)
    for rate in watch.rates[:-1]:
        assert [value / rate[0] for value in rate] == pytest.approx([1.0, 1.0, 0.5, 0.5, 0.1, 0.1])
