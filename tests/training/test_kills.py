"""A training of two processes is killed at random moments of its life, and ends as the one that was not.

Four kills while it trains by default, `WINDTUNNEL_TEST_KILLS=20` says otherwise; others fall before and after.
"""

from __future__ import annotations

import os
import random
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from include.settings import Settings
from tests.fakes.tiny_torch import torch_spec
from tests.fakes.tiny_training import Fit
from tests.training.conftest import alive, children, wait_for

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("WINDTUNNEL_TEST_KILLS", "4"))
INTERVAL = 4
_BASICS: dict[str, Any] = {"devices": 2, "checkpoint_every_steps": INTERVAL, "model": {"pause_ms": 25}}
#: Between them, all that a checkpoint has to hold: moments of two optimizers, learned weights of tasks, stages of
#: unfreezing, a schedule by steps; the scaler of float16, a plateau, early stopping, steps over several batches.
SPECS = {
    "unfreezing": torch_spec(
        **_BASICS,
        max_epochs=8,
        scheduler={"kind": "cosine", "warmup_share": 0.1},
        tasks={"balance": "uncertainty"},
        transfer={
            "learn_only": ["kind.*", "amount.*", "tasks.*"],
            "unfreeze": [
                {"after_epochs": 2, "parameters": ["trunk.4.*"]},
                {"after_steps": 27, "parameters": ["trunk.[01].*"]},
            ],
            "rates": [{"parameters": ["trunk.*"], "factor": 0.5}],
        },
    ),
    "plateau": torch_spec(
        **_BASICS,
        max_epochs=20,
        batch_size=8,
        accumulate_grad_batches=2,
        precision="16-mixed",
        optimizer={"kind": "sgd", "momentum": 0.9},
        scheduler={"kind": "plateau", "patience": 0, "min_delta": 0.05, "factor": 0.5},
        early_stopping_patience=2,
        early_stopping_min_delta=0.05,
    ),
}

_EARLY = "kill -9 before or after its processes"


def _moment(dice: random.Random, fit: Fit, process: ForkServerProcess) -> None:
    """Waits for a random moment of the life of `process`: as it starts, between two of its steps, or as it exports.

    Moments are told by what it has done and not by a clock, so that a busy machine is killed as often while it trains.
    """
    kind, began = dice.random(), fit.step()
    steps = 0 if kind < 0.1 else dice.randint(1, 3 * INTERVAL)
    done = fit.is_trained if kind > 0.9 else lambda: fit.step() >= began + steps or fit.is_trained()
    wait_for(lambda: process.exitcode is not None or done())
    process.join(dice.random() * 0.05)


def _kill(dice: random.Random, fit: Fit) -> str | None:
    """Starts the work and ends it badly; how, or None where it ended well before."""
    process = fit.start()
    assert process.pid is not None
    wait_for(lambda: process.exitcode is not None or os.getpgid(process.pid) == process.pid)  # else it is our own group
    _moment(dice, fit, process)
    if process.exitcode is not None:
        assert process.exitcode == 0, fit.log.read_text()[-4000:]
        return None
    ranks = children(process.pid)
    how = dice.choice(["kill -9 of the command", "kill -9 of a process", "SIGTERM"]) if ranks else _EARLY
    if how == "SIGTERM":
        os.killpg(process.pid, signal.SIGTERM)
    else:
        os.kill(dice.choice(ranks) if how == "kill -9 of a process" else process.pid, signal.SIGKILL)
    process.join(60)
    wait_for(lambda: not any(alive(pid) for pid in ranks), 20)
    return None if process.exitcode == 0 else how


def _ends_as(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: outputs[name] for name in ("digest", "metrics", "best_epoch", "steps")}


def test_killed_at_random_moments_it_ends_as_the_one_that_was_not(settings: Settings, tmp_path: Path) -> None:
    references = {name: _fit(settings, name, "reference", tmp_path).finish() for name in SPECS}
    assert references["plateau"]["steps"] < 20 * 6, "early stopping did not end it: the test would say less"

    dice, killed, most, number = random.Random(5), list[str](), 0, 0

    def enough() -> bool:
        return sum(how != _EARLY for how in killed) >= KILLS

    while not enough():
        name = list(SPECS)[number % len(SPECS)]
        fit = _fit(settings, name, f"killed-{number}", tmp_path)
        while not enough() and not fit.is_trained() and (how := _kill(dice, fit)):
            killed.append(how)
        assert _ends_as(fit.finish()) == _ends_as(references[name]), f"{fit.name}: {killed}"  # to the last bit
        most = max([most, *(entry["steps"] for entry in fit.lost())])
        number += 1
    ways = ", ".join(f"{killed.count(how)} by {how}" for how in sorted(set(killed)))
    print(f"{len(killed)} kills of {number} trainings ({ways}); most steps done again after one: {most} of {INTERVAL}")
    assert most <= INTERVAL


def _fit(settings: Settings, name: str, which: str, folder: Path) -> Fit:
    return Fit(settings, SPECS[name], f"{name}-{which}", folder / f"{name}-{which}.log")
