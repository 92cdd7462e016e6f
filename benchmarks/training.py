"""Training speed: the `fit` step's own loop beside a bare PyTorch loop, and beside sentence-transformers' trainer.

The bare loop is what one would write without Lightning: the same encoder, loss, optimizer, schedule, clipping and
precision, on the same batches, and nothing else. The fit side is the real thing: trainer, callback with seeding,
progress and events. Validation and checkpoints are left out of both; one epoch each on one thread. They take turns step
by step, so that whatever else the machine does slows both alike. All are measured in processor time, which other work
disturbs less than the clock on the wall.

Beside sentence-transformers, every transformer layer learns on both sides and a question's negatives are the other
passages of its batch, as its `MultipleNegativesRankingLoss` has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from benchmarks.harness import Figure, summarise
from benchmarks.model import FAMILY, environment, prepare
from include.families.contract import LightningFamily, load_code
from include.settings import Settings
from include.spec.models import FamilySpec

_IMPORTS = "import include.training.worker, include.families.compliance_qa.lightning_parts"
_NOTE = "One process and thread; same encoder, batches, loss, optimizer, clipping and precision; no validation."
_FULL_NOTE = (
    "One process and thread; both sides learn in all layers, in-batch negatives; same weights, pairs, batch size, "
    "token limits, optimizer, clipping and precision; no validation."
)
_FULL_EXAMPLES = 128


def run(quick: bool) -> list[Figure]:
    """Examples per processor second of `fit` and of a bare loop; what a training process needs to start."""
    import torch

    torch.set_num_threads(1)
    bench = _bench()
    own, bare = [], []
    for turn in range(3 if quick else 10):
        rates = _step_by_step(bench)
        if turn:  # the first one warms up
            own.append(rates[0])
            bare.append(rates[1])
    full, theirs = _beside_sentence_transformers(bench, 2 if quick else 5)
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
            "full fine-tuning: examples per processor second of `fit`",
            full,
            unit="1/s",
            peer="sentence-transformers' trainer",
            peer_values=theirs,
            note=_FULL_NOTE,
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
    family, spec = cast(LightningFamily, load_code(bench.spec.code)), bench.spec
    data = family.data_module(spec, bench.dataset, spec.hyperparameters, 0)
    return data, family.module(spec, bench.dataset, spec.hyperparameters)


def _step_by_step(bench: _Bench) -> tuple[float, float]:
    """Rates of `fit` and of the bare loop over one epoch each; after each step of the one comes a step of the other."""
    loop, seen, seconds = _bare(bench), 0, 0.0
    next(loop)

    def step() -> None:
        nonlocal seen, seconds
        started = time.process_time()
        seen += next(loop)
        seconds += time.process_time() - started

    own = _fit(bench, step)
    return own, seen / seconds


def _fit(bench: _Bench, between: Callable[[], None] = lambda: None) -> float:
    """Examples per processor second of the fit step's trainer and callback.

    Args:
        between: Called after every step, on its own time.
    """
    from lightning.pytorch import Callback, LightningModule, Trainer

    from include.steps.document import make_document
    from include.steps.entry import StepContext
    from include.store.objects import open_store
    from include.training.callbacks import FitCallback
    from include.training.ranks import Rank
    from include.training.stop import Stop
    from include.training.worker import make_trainer

    class Clock(Callback):
        seconds, seen = 0.0, 0

        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.seen += len(batch.targets)
            self.seconds += time.process_time()
            between()
            self.seconds -= time.process_time()

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
        rank = Rank(0, 1, 1, Path(scratch), Stop())
        callback = FitCallback(
            context,
            rank,
            metric=bench.spec.sweep.metric,
            maximize=True,
            batch_size=bench.spec.trainer.batch_size,
            seed=0,
            marks=Path(scratch) / "marks.json",
            attempt="00" * 16,
        )
        clock = Clock()
        trainer = make_trainer(bench.spec, [callback, clock], devices=1, folder=Path(scratch))
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=data)
    return clock.seen / clock.seconds


def _bare(bench: _Bench) -> Iterator[int]:
    """A plain loop: yields 0 when it is set up, then the number of examples of each step that it did."""
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
    yield 0
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
        yield len(batch.targets)


def _beside_sentence_transformers(bench: _Bench, turns: int) -> tuple[list[float], list[float]]:
    """Rates of `fit` and of sentence-transformers' trainer, turn by turn."""
    spec = bench.spec
    model = {**spec.model, "passages": "trained", "freeze_layers": 0}
    hyper = {**spec.hyperparameters, "hard_negatives": 0}
    trainer = spec.trainer.model_copy(update={"max_examples": _FULL_EXAMPLES})
    full = replace(bench, spec=spec.model_copy(update={"model": model, "hyperparameters": hyper, "trainer": trainer}))
    own, theirs = [], []
    for turn in range(turns + 1):
        order = (_fit, _sentence_transformers) if turn % 2 else (_sentence_transformers, _fit)
        rates = {side: side(full) for side in order}
        if turn:  # the first one warms up
            own.append(rates[_fit])
            theirs.append(rates[_sentence_transformers])
    return own, theirs


def _sentence_transformers(bench: _Bench) -> float:
    """Examples per processor second of sentence-transformers' own trainer and loss."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from include.families.compliance_qa.config import Hyperparameters, ModelConfig
    from include.families.compliance_qa.encoder import locate

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.seconds = -time.process_time()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.seconds += time.process_time()

    config, hyper = (
        ModelConfig.model_validate(bench.spec.model),
        Hyperparameters.model_validate(bench.spec.hyperparameters),
    )
    data, _ = _parts(bench)
    questions, passages = data._train, data.prepared.indexed
    pairs = {
        "anchor": list(questions.texts),
        "positive": [passages[numbers[0]] for numbers in questions.gold],
    }
    model: Any = SentenceTransformer(str(locate(config.encoder, config.sha256)), device="cpu", local_files_only=True)
    model.max_seq_length = config.max_train_tokens
    for parameter in model[0].auto_model.embeddings.parameters():
        parameter.requires_grad = False  # as `fit` has it
    trainer, clock = bench.spec.trainer, Clock()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=trainer.batch_size,
            learning_rate=hyper.learning_rate,
            weight_decay=hyper.weight_decay,
            warmup_steps=hyper.warmup_share,
            max_grad_norm=trainer.gradient_clip_norm,
            bf16=trainer.precision.value.startswith("bf16"),
            optim="adamw_torch_fused",
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(pairs),
            loss=MultipleNegativesRankingLoss(model, scale=1 / hyper.temperature),
            callbacks=[clock],
        ).train()
    return len(pairs["anchor"]) / clock.seconds


def _start_seconds(settings: Settings) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True, env=environment(settings))
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)
