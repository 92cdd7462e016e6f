"""What is done about each ending: again for nothing, a retry, or nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from include.failures.adjust import Adjustment, smaller_batch
from include.failures.endings import LOST_PLACE, Ending
from include.failures.policy import Action, Decision, decide
from include.spec.models import FamilySpec
from include.spec.training import RetrySpec, TrainerSpec
from tests.fakes.tiny_family import tiny_spec

NONE = Adjustment()


def _spec(**trainer: Any) -> FamilySpec:
    return tiny_spec(trainer={"batch_size": 32, **trainer}, retry={"lost_places": 2, "learning_rate_factor": 0.25})


def _decide(ending: Ending, step: str = "fit", **given_: Any) -> Decision:
    arguments: dict[str, Any] = {"spec": _spec(), "now": NONE, "earlier": (), "has_rate": True} | given_
    return decide(ending, step=step, **arguments)


@pytest.mark.parametrize("ending", sorted(LOST_PLACE))
def test_a_lost_place_uses_up_no_retry_until_its_own_limit(ending: Ending) -> None:
    first = _decide(ending)
    assert (first.action, first.pause_seconds, first.adjustment) == (Action.AGAIN, 30.0, NONE)
    assert "1 of 2" in first.reason
    others = (Ending.UNKNOWN, Ending.OUT_OF_MEMORY)
    assert _decide(ending, earlier=(*others, Ending.EVICTED)).action is Action.AGAIN
    assert _decide(ending, earlier=(*others, Ending.EVICTED, Ending.NODE_LOST)).action is Action.RETRY


@pytest.mark.parametrize("ending", [Ending.DATA, Ending.USER])
def test_what_a_person_must_mend_is_not_tried_again(ending: Ending) -> None:
    assert _decide(ending).action is Action.FAIL
    assert _decide(ending, step="ingest").action is Action.FAIL


@pytest.mark.parametrize(
    ("ending", "pause"),
    [
        (Ending.UNKNOWN, None),
        (Ending.KILLED, None),
        (Ending.TIMED_OUT, None),
        (Ending.COMMUNICATION, 60.0),
        (Ending.IMAGE, 120.0),
        (Ending.UNSCHEDULABLE, 300.0),
    ],
)
def test_the_rest_uses_ordinary_retries(ending: Ending, pause: float | None) -> None:
    found = _decide(ending, earlier=[ending] * 50)
    assert (found.action, found.pause_seconds, found.adjustment) == (Action.RETRY, pause, NONE)


def test_out_of_memory_halves_the_batch_down_to_one_example() -> None:
    now, sizes = NONE, []
    while (found := _decide(Ending.OUT_OF_MEMORY, now=now)).action is Action.AGAIN:
        now = found.adjustment
        trainer = now.trainer(_spec().trainer)
        sizes.append((trainer.batch_size, trainer.accumulate_grad_batches))
    assert sizes == [(16, 2), (8, 4), (4, 8), (2, 16), (1, 32)]
    assert found.action is Action.FAIL and "down to 1" in found.reason


def test_every_device_keeps_an_example() -> None:
    spec = _spec(devices=4)
    now = Adjustment(batch_divisor=4)  # 8 examples, 2 a device
    found = _decide(Ending.OUT_OF_MEMORY, spec=spec, now=now)
    assert found.adjustment.batch_divisor == 8
    assert _decide(Ending.OUT_OF_MEMORY, spec=spec, now=found.adjustment).action is Action.FAIL


def test_only_training_can_do_with_smaller_batches() -> None:
    assert _decide(Ending.OUT_OF_MEMORY, step="sweep").action is Action.AGAIN
    assert _decide(Ending.OUT_OF_MEMORY, step="evaluate").action is Action.RETRY


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_a_smaller_batch_keeps_the_examples_per_step(devices: int) -> None:
    for size in range(1, 70):
        trainer = TrainerSpec(batch_size=size, accumulate_grad_batches=3, devices=devices)
        found = smaller_batch(trainer, NONE)
        if found is None:
            assert devices > 1 or size == 1
            continue
        used = found.trainer(trainer)
        assert devices <= used.batch_size < size
        assert used.batch_size * used.accumulate_grad_batches == size * 3


def test_divergence_lowers_the_rate_once_and_keeps_the_batch() -> None:
    now = Adjustment(batch_divisor=2)
    found = _decide(Ending.DIVERGED, now=now)
    assert found.action is Action.AGAIN
    assert found.adjustment == Adjustment(batch_divisor=2, learning_rate_factor=0.25)
    assert _decide(Ending.DIVERGED, now=found.adjustment).action is Action.FAIL
    assert _decide(Ending.DIVERGED, has_rate=False).action is Action.FAIL
    assert _decide(Ending.DIVERGED, step="sweep").action is Action.FAIL
    never = _spec().model_copy(update={"retry": RetrySpec(learning_rate_factor=1.0)})
    assert _decide(Ending.DIVERGED, spec=never).action is Action.FAIL


def test_another_batch_goes_on_where_another_rate_begins_anew() -> None:
    assert NONE.branch == Adjustment(batch_divisor=4).branch == ""
    assert Adjustment(learning_rate_factor=0.3).branch == "lr-0.3"
    assert Adjustment(batch_divisor=4).both(Adjustment(learning_rate_factor=0.3, batch_divisor=2)) == Adjustment(
        batch_divisor=4, learning_rate_factor=0.3
    )
