"""Sweeps: trials per minute, and what pruning saves on the way to a fixed objective.

Both sides search the same configurations in the same order: a corner of the space, then random ones from one seed. The
objective to reach is the best value that the search without pruning found, so that side always gets there; pruning may
lose it by ending the trial that would have won, which then counts with all that the search took. One process and
thread; time is processor time, which the machine's other work disturbs less than the clock on the wall.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna

from benchmarks.harness import Figure, summarise
from benchmarks.model import prepare
from include.settings import Settings
from include.spec.models import FamilySpec
from include.spec.space import grid_points
from include.steps.document import make_document
from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training.study import open_study
from include.training.study_trials import run_trials
from include.training.trials import TrialRunner

_TRIALS, _EPOCHS, _EXAMPLES = 10, 4, 128


@dataclass(frozen=True)
class _Search:
    """What a search took: processor seconds up to the end of each trial, values (None: pruned), and all of it."""

    ends: list[float]
    values: list[float | None]
    wall: float

    def seconds_to(self, target: float) -> float | None:
        """Processor seconds until a trial reached `target`; None where none did."""
        for end, value in zip(self.ends, self.values, strict=True):
            if value is not None and value >= target:
                return end
        return None


def run(quick: bool) -> list[Figure]:
    """Trials per minute, and processor seconds to the same objective with and without pruning."""
    os.environ["OMP_NUM_THREADS"] = "1"
    prepared = prepare()
    os.environ.update(prepared.settings.to_env())
    trials, repeats = (4, 1) if quick else (_TRIALS, 5)
    rates, reached, peer, lost = [], [], [], 0
    _search(prepared.settings, prepared.spec, prepared.dataset_version, "none", 0, 1)  # warms up
    for seed in range(1, repeats + 1):
        sides = ("none", "median") if seed % 2 else ("median", "none")
        found = {
            side: _search(prepared.settings, prepared.spec, prepared.dataset_version, side, seed, trials)
            for side in sides
        }
        whole = found["none"]
        target = max(value for value in whole.values if value is not None)
        rates.append(60 * trials / whole.wall)
        peer.append(whole.seconds_to(target) or 0.0)
        seconds = found["median"].seconds_to(target)
        lost += seconds is None
        reached.append(found["median"].ends[-1] if seconds is None else seconds)
    size = f"{_EXAMPLES} examples, {_EPOCHS} epochs"
    note = f"{trials} random trials of {size}; the objective was pruned away in {lost} of {repeats} searches."
    return [
        summarise("sweep", f"trials per minute of one worker ({size})", rates, unit="1/min"),
        summarise(
            "sweep",
            "processor seconds to the search's best value, with median pruning",
            reached,
            unit="s",
            peer="without pruning",
            peer_values=peer,
            note=note,
        ),
    ]


def _search(settings: Settings, spec: FamilySpec, version: str, pruner: str, seed: int, trials: int) -> _Search:
    changes: dict[str, Any] = {
        "sampler": "random",
        "pruner": pruner,
        "trials": trials,
        "workers": 1,
        "max_epochs": _EPOCHS,
        "max_examples": _EXAMPLES,
    }
    spec = spec.model_copy(update={"sweep": spec.sweep.model_copy(update=changes)})
    inputs = {"dataset_version": version, "seed": seed}
    document = make_document(
        "sweep", "benchmarks", spec, inputs, spec_parts=(), code_version="", created_at=datetime.now(UTC)
    )
    context = StepContext(document, open_store(settings.store_url), settings)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/optuna.db"
        # The first trial tries the defaults, which are good: from the corner of the space there is something to find.
        corner = {name: next(iter(grid_points({name: range_})))[name] for name, range_ in spec.sweep.space.items()}
        defaults = {**spec.hyperparameters, **corner}
        study = open_study(
            url,
            uuid.uuid4().hex,
            spec.sweep,
            seed=seed,
            slot=0,
            defaults=defaults,
            budget=trials,
        )
        runner = TrialRunner(context, spec, defaults, Path(folder), study)
        ends: list[float] = []
        values: list[float | None] = []
        started, wall = time.process_time(), time.perf_counter()

        def timed(trial: optuna.trial.Trial) -> float | tuple[float, float]:
            value: float | None = None
            try:
                value = float(runner.objective(trial))  # type: ignore[arg-type]
                return value
            finally:
                ends.append(time.process_time() - started)
                values.append(value)

        run_trials(study, timed, worker="benchmark")
        return _Search(ends, values, time.perf_counter() - wall)
