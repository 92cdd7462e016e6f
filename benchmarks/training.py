"""Training speed: the `fit` step's own loop beside a bare PyTorch loop over the same model and batches.

The bare loop is what one would write without Lightning: the same encoder, loss, optimizer, schedule, clipping and
precision, on the same batches, and nothing else. The fit side is the real thing: trainer, callback with seeding,
progress and events. Validation and checkpoints are left out of both; one epoch each on one thread, taking
turns. Both are measured in processor time, which the machine's other work disturbs less than the clock on the wall.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, summarise
from benchmarks.model import FAMILY, environment, prepare
from include.families.contract import load_code
from include.settings import Settings
from include.spec.models import FamilySpec

_IMPORTS = "import include.training.worker, include.families.compliance_qa.lightning_parts"
_NOTE = "One process and thread; same encoder, batches, loss, optimizer, clipping and precision; no validation."


def run(quick: bool) -> list[Figure]:
    """Examples per processor second of `fit` and of a bare loop; what a training process needs to start."""
    import torch

    torch.set_num_threads(1)
    bench = _bench()
    own, bare = [], []
    for repeat in range(3 if quick else 16):
        order = (_fit, _bare) if repeat % 2 else (_bare, _fit)
        rates = {side: side(bench) for side in order}
        if repeat:  # the first turn warms up
            own.append(rates[_fit])
            bare.append(rates[_bare])
    starts = [_start_seconds(bench.settings) for _ in range(2 if quick else 5)]
    return [
        summarise(
            "training",
            "examples per processor second of `fit`",
            own,
            unit="1/s",
            peer="bare PyTorch loop",
            peer_values=bare,
            note=_NOTE,
            paired=True,
        ),
        summarise(
            "training",
            "processor seconds to start a training process",
            starts,
            unit="s",
            note="Imports of torch, Lightning and the family's model; ranks are forked after them.",
        ),
    ]


@dataclass(frozen=True)
class _Bench:
    settings: Settings
    spec: FamilySpec
    dataset: Any


def _bench() -> _Bench:
    from include.data.datasets import open_dataset

    prepared = prepare()
    os.environ.update(prepared.settings.to_env())
    trainer: dict[str, Any] = {"max_epochs": 1, "devices": 1, "checkpoint_every_steps": 10**6, "accelerator": "cpu"}
    trainer["early_stopping_patience"] = None
    spec = prepared.spec.model_copy(update={"trainer": prepared.spec.trainer.model_copy(update=trainer)})
    return _Bench(prepared.settings, spec, open_dataset(prepared.settings, FAMILY, prepared.dataset_version))


def _parts(bench: _Bench) -> tuple[Any, Any]:
    family, spec = load_code(bench.spec.code), bench.spec
    data = family.data_module(spec, bench.dataset, spec.hyperparameters, 0)
    return data, family.module(spec, bench.dataset, spec.hyperparameters)


def _fit(bench: _Bench) -> float:
    """Examples per processor second of the fit step's trainer and callback."""
    from lightning.pytorch import Callback

    from include.steps.document import make_document
    from include.steps.entry import StepContext
    from include.store.objects import open_store
    from include.training.callbacks import FitCallback
    from include.training.ranks import Rank, Stop
    from include.training.worker import make_trainer

    class Clock(Callback):
        seconds = 0.0

        def on_train_epoch_start(self, *_: Any) -> None:
            self.seconds = -time.process_time()

        def on_train_epoch_end(self, *_: Any) -> None:
            self.seconds += time.process_time()

    document = make_document(
        "fit", "benchmarks", bench.spec, {}, spec_parts=(), code_version="", created_at=datetime.now(UTC)
    )
    data, module = _parts(bench)
    with tempfile.TemporaryDirectory() as scratch:
        context = StepContext(document, open_store(bench.settings.store_url), bench.settings)
        batch = bench.spec.trainer.batch_size
        rank = Rank(0, 1, 1, Path(scratch), Stop())
        callback = FitCallback(
            context,
            rank,
            metric=bench.spec.sweep.metric,
            maximize=True,
            batch_size=batch,
            seed=0,
            marks=Path(scratch) / "marks.json",
            attempt="00" * 16,
        )
        clock = Clock()
        trainer = make_trainer(bench.spec, [callback, clock], devices=1, folder=Path(scratch))
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=data)
    return trainer.global_step * batch / clock.seconds


def _bare(bench: _Bench) -> float:
    """Examples per processor second of a plain loop."""
    import torch

    from include.families.compliance_qa.batches import BatchPlan
    from include.families.compliance_qa.config import Hyperparameters
    from include.families.compliance_qa.lightning_parts import ranking_loss

    data, module = _parts(bench)
    hyper = Hyperparameters.model_validate(bench.spec.hyperparameters)
    encoder, passages = module.encoder, module.fixed
    bfloat16 = bench.spec.trainer.precision.value.startswith("bf16")
    encoder.eval()
    data._questions.remember(encoder, 1 << 20, torch.bfloat16 if bfloat16 else torch.float32)
    plan = BatchPlan(
        gold=data._train.gold,
        lengths=[len(ids) for ids in data._questions.ids],
        size=bench.spec.trainer.batch_size,
        world=1,
        seed=0,
        corpus=len(passages),
    )
    learning = list(encoder.learning().values())
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": hyper.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=hyper.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / len(plan))
    columns = torch.arange(len(passages))
    encoder.train()
    started, seen = time.process_time(), 0
    for index, pairs in enumerate(plan.epoch(0)):
        batch = data.collate(plan.rank_batch(pairs, 0, index, 0))
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            questions = torch.cat([encoder.upper(*block) for block in batch.questions])
            loss = ranking_loss(questions, passages, columns, batch.targets, batch.gold, hyper.temperature)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, bench.spec.trainer.gradient_clip_norm, foreach=True)
        optimizer.step()
        schedule.step()
        seen += len(batch.targets)
    return seen / (time.process_time() - started)


def _start_seconds(settings: Settings) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True, env=environment(settings))
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)
