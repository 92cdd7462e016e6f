"""Watches a training of arrays: progress, events, checkpoints, best weights, early stopping, and leaving when asked to.

A checkpoint is a zip of the learner's state and the record, so that it is whole or found damaged.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training.checkpoints import Checkpoints, place
from include.training.lost import MarkWriter
from include.training.ranks import Rank
from include.training.record import Record, events_file, wanted
from include.training.stop import Stopped

if TYPE_CHECKING:
    from include.training.learning import Learner, Step
    from include.training.trainer import Work

_EVENT_SECONDS = 1.0
_RECORD, _STATE = "record.json", "state"


class FitWatch:
    """Of the one process that trains; see `include.training.learning.Watch`.

    Args:
        learner: Is put where the work's checkpoint is, if there is one.
    """

    def __init__(self, work: Work, rank: Rank, learner: Learner) -> None:
        spec, store = work.spec, open_store(work.settings.store_url)
        self._context = StepContext(work.document.model_copy(update={"spec": spec}), store, work.settings)
        self._metric, self._maximize = spec.sweep.metric, spec.sweep.direction == "maximize"
        self._patience = spec.trainer.early_stopping_patience
        self._rank = rank
        self._checkpoints = Checkpoints(store, place(work.document))
        self._far = MarkWriter(store, work.document.output, work.marks, work.attempt)
        self._total = learner.epochs * learner.steps
        self._last_event = 0.0
        self._due = self._stopping = False
        self.position = (0, 0)
        self.record = Record()
        if work.resume is not None:
            self._restore(work.resume, learner)
        self._far.saved(self.record.steps, self.record.seconds)
        self._progress(self.position[0], {}, force=True)

    def stepped(self, learner: Learner, index: int, taken: Step) -> None:
        record = self.record
        record.seconds += taken.seconds
        record.samples += taken.samples
        record.steps += 1
        self._far.step(record.steps, record.seconds)
        self.position = (taken.epoch, index + 1)
        if time.monotonic() - self._last_event > _EVENT_SECONDS:
            facts = {} if taken.loss is None else {"loss": taken.loss}
            self._event(taken.epoch, {**facts, "samples_per_second": record.samples / max(record.seconds, 1e-9)})
            self._progress(taken.epoch, facts)
        self._stopping = self._rank.stop.due(record.steps, self._rank.number, self._rank.world)
        if self._stopping or record.steps % learner.save_every == 0:
            self._due = True
        if index + 1 < learner.steps:  # the last one waits for validation, which a resumed training would leave out
            self._save_if_due(learner)

    def validated(self, learner: Learner, epoch: int, metrics: Mapping[str, float]) -> bool:
        value, record = wanted(metrics, self._metric), self.record
        best = record.best_value
        if best is None or (value > best if self._maximize else value < best):
            record.best_epoch, record.best_value = epoch, value
            record.metrics = {name: round(float(number), 6) for name, number in metrics.items()}
            self._checkpoints.save_best(learner.save_best(self._rank.scratch))
        self.position = (epoch + 1, 0)
        self._event(epoch, {f"validation_{name}": float(number) for name, number in metrics.items()})
        self._progress(epoch, {self._metric: value}, force=True)
        if epoch + 1 >= learner.epochs or (self._patience is not None and epoch - record.best_epoch >= self._patience):
            return True
        self._save_if_due(learner)
        return False

    def summary(self) -> dict[str, Any]:
        """The fields of the record."""
        return vars(self.record).copy()

    def _save_if_due(self, learner: Learner) -> None:
        if self._due:
            state, path = self._rank.scratch / _STATE, self._rank.scratch / f"step-{self.record.steps}.ckpt"
            learner.save(state)
            with zipfile.ZipFile(path, "w") as archive:
                told = {"record": vars(self.record), "position": self.position}
                archive.writestr(_RECORD, json.dumps(told))
                archive.write(state, _STATE)
            self._checkpoints.save(path, self.record.steps)
            state.unlink()
            path.unlink()
            self._far.saved(self.record.steps, self.record.seconds)
            self._due = False
        if self._stopping:
            raise Stopped("training was asked to stop")

    def _restore(self, path: Path, learner: Learner) -> None:
        with zipfile.ZipFile(path) as archive:
            told = json.loads(archive.read(_RECORD))
            learner.restore(Path(archive.extract(_STATE, self._rank.scratch)))
        (self._rank.scratch / _STATE).unlink()
        self.record = Record(**told["record"])
        self.position = (int(told["position"][0]), int(told["position"][1]))

    def _progress(self, epoch: int, facts: Mapping[str, float], force: bool = False) -> None:
        best = {} if self.record.best_value is None else {"best": self.record.best_value}
        self._context.progress(self.record.steps, self._total, "steps", force=force, epoch=epoch + 1, **facts, **best)

    def _event(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """A line for the tracker, which the parent process reads."""
        self._last_event = time.monotonic()
        line = {"step": self.record.steps, "epoch": epoch, "at": time.time(), "metrics": dict(metrics)}
        with events_file(self._rank.scratch).open("a") as events:
            events.write(json.dumps(line) + "\n")
        self._far.publish()
