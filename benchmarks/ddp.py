"""Training over several processes: how much of a second core is left for training, and what the exchange costs.

One epoch of the `fit` step's own trainer and callback, without validation and checkpoints, on the same batches: by one
process, by two of one pod, and by two pods of one process each, which speak TCP over the loopback device. One thread a
process. They take turns, so that what else the machine does slows all alike. The clock runs from the end of the first
step, in which the processes agree on their buckets of gradients.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

from benchmarks.harness import Figure, summarise
from benchmarks.model import FAMILY, prepare
from include.families.contract import LightningFamily, load_code
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.document import make_document
from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training.gang import Gang
from include.training.node import Node
from include.training.ranks import Rank, run_ranks
from include.training.stop import context

_EXAMPLES = 640
_NOTE = (
    "One epoch of {examples} examples in batches of {batch} over all processes, {learning:.1f} M parameters learn; one "
    "thread a process, gloo. GPUs and NCCL were not measured, nor a network between machines."
)
#: Name -> (pods, processes in each).
_SIDES = {"1 process": (1, 1), "2 processes": (1, 2), "2 pods": (2, 1)}


def run(quick: bool) -> list[Figure]:
    """Examples per second, and per processor second, of two processes beside one; the ideal ratios are 2 and 1."""
    bench = _bench()
    wall: dict[str, list[float]] = {side: [] for side in _SIDES}
    work: dict[str, list[float]] = {side: [] for side in _SIDES}
    learning = 0.0
    for repeat in range(2 if quick else 9):
        sides = list(_SIDES) if repeat % 2 else list(reversed(_SIDES))
        turn = {side: _measure(bench, *_SIDES[side]) for side in sides}
        if repeat:  # the first turn warms up
            for side, measured in turn.items():
                wall[side].append(measured["examples"] / measured["wall"])
                work[side].append(measured["examples"] / measured["processor"])
                learning = measured["learning"] / 1e6
    note = _NOTE.format(examples=_EXAMPLES, batch=bench.spec.trainer.batch_size, learning=learning)
    figures = []
    for side in ("2 processes", "2 pods"):
        for rates, unit in ((wall, "examples per second"), (work, "examples per processor second")):
            figures.append(
                summarise(
                    "ddp",
                    f"{unit} of `fit`, {side}",
                    rates[side],
                    unit="1/s",
                    peer="1 process",
                    peer_values=rates["1 process"],
                    note=note,
                    paired=True,
                )
            )
    return figures


@dataclass(frozen=True)
class _Bench:
    settings: Settings
    spec: FamilySpec
    version: str


def _bench() -> _Bench:
    # In a process of its own: no thread of torch's or of the tables' may run in the one from which ranks are forked.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        prepared = pool.submit(prepare).result()
    import include.training.worker  # noqa: F401 - before processes are forked

    os.environ.update(prepared.settings.to_env())
    trainer: dict[str, Any] = {"max_epochs": 1, "checkpoint_every_steps": 10**6, "accelerator": "cpu"}
    trainer |= {"early_stopping_patience": None, "max_examples": _EXAMPLES}
    spec = prepared.spec.model_copy(update={"trainer": prepared.spec.trainer.model_copy(update=trainer)})
    return _Bench(prepared.settings, spec, prepared.dataset_version)


@dataclass(frozen=True)
class _Epoch:
    """What a training process does: an epoch between two clocks."""

    bench: _Bench
    nodes: int
    devices: int

    def __call__(self, rank: Rank) -> None:
        from include.training.process_group import process_group

        with process_group(rank):
            measured = self._measured(rank)
        (rank.scratch / f"clock-{rank.number}.json").write_text(json.dumps(measured))

    def _measured(self, rank: Rank) -> dict[str, float]:
        from lightning.pytorch import Callback

        from include.data.datasets import open_dataset
        from include.training.callbacks import FitCallback
        from include.training.worker import make_trainer

        class Clock(Callback):
            steps, wall, processor = 0, 0.0, 0.0

            def on_train_batch_end(self, *arguments: Any) -> None:
                self.steps += 1
                if self.steps == 1:
                    self.wall, self.processor = -time.perf_counter(), -time.process_time()

            def on_train_epoch_end(self, *_: Any) -> None:
                self.wall += time.perf_counter()
                self.processor += time.process_time()

        bench, spec = self.bench, self.bench.spec
        family = cast(LightningFamily, load_code(spec.code))
        dataset = open_dataset(bench.settings, FAMILY, bench.version)
        data = family.data_module(spec, dataset, spec.hyperparameters, 0)
        module = family.module(spec, dataset, spec.hyperparameters)
        document = make_document(
            "fit", "benchmarks", spec, {}, spec_parts=(), code_version="", created_at=datetime.now(UTC)
        )
        callback = FitCallback(
            StepContext(document, open_store(bench.settings.store_url), bench.settings),
            rank,
            metric=spec.sweep.metric,
            maximize=True,
            batch_size=spec.trainer.batch_size,
            seed=0,
            marks=rank.scratch / "marks",
            attempt="00" * 16,
        )
        clock = Clock()
        trainer = make_trainer(spec, [callback, clock], devices=self.devices, nodes=self.nodes, folder=rank.scratch)
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=data)
        learning = sum(each.numel() for each in module.parameters() if each.requires_grad)
        examples = (clock.steps - 1) * spec.trainer.batch_size
        return {"examples": examples, "wall": clock.wall, "processor": clock.processor, "learning": float(learning)}


def _measure(bench: _Bench, nodes: int, devices: int) -> dict[str, float]:
    """Of an epoch: examples, seconds of the slowest process, and processor seconds of all."""
    work, name = _Epoch(bench, nodes, devices), uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        others = [
            context().Process(target=_node, args=(work, Node(node, nodes, name), Path(folder)))
            for node in range(1, nodes)
        ]
        for process in others:
            process.start()
        _node(work, Node(0, nodes, name), Path(folder))
        for process in others:
            process.join()
        clocks = [json.loads(path.read_text()) for path in Path(folder).glob("*/clock-*.json")]
    assert len(clocks) == nodes * devices
    return {
        "examples": clocks[0]["examples"],
        "wall": max(clock["wall"] for clock in clocks),
        "processor": sum(clock["processor"] for clock in clocks),
        "learning": clocks[0]["learning"],
    }


def _node(work: _Epoch, node: Node, folder: Path) -> None:
    scratch = folder / f"node-{node.rank}"
    scratch.mkdir()
    gang = Gang(node, open_store(folder.as_uri()), "gang", 120.0, {}) if node.nodes > 1 else None
    run_ranks(work, work.devices, 1, scratch, gang=gang)
