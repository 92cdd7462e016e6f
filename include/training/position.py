"""Where a training is in its data, so that a loader can begin where a checkpoint left off."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from lightning.pytorch import Trainer


def position(trainer: Trainer | None) -> tuple[int, int]:
    """The epoch (from 0), and how many of its batches were trained on.

    To be asked when the first batch is wanted: a checkpoint has been read by then. (Lightning has states of loaders,
    but restores none once the loader was made, which asking for the number of steps in `configure_optimizers` does
    before the checkpoint is read.)
    """
    assert trainer is not None  # a data module knows its trainer from `setup` on
    return int(trainer.current_epoch), int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
