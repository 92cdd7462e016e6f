"""The search space, and what a failed gate changes about it."""

from __future__ import annotations

from typing import Any

import pytest

from include.errors import UserError
from include.spec.space import Choice, FloatRange, IntRange
from include.training.plan import split_overrides, threads_per_process
from include.training.space import adjusted, inside, shuffled_grid, trial_budget
from tests.training.conftest import small_spec

SPACE = {
    "learning_rate": FloatRange(kind="float", low=1e-4, high=1e-2, log=True),
    "share": FloatRange(kind="float", low=0.0, high=1.0),
    "layers": IntRange(kind="int", low=2, high=8, step=3),
    "mode": Choice(kind="choice", values=["a", "b"]),
}


def test_without_changes_the_defaults_are_the_specs() -> None:
    spec = small_spec()
    same, defaults = adjusted(spec, {})
    assert same == spec
    assert defaults == spec.hyperparameters
    assert trial_budget(4, {}) == 4


def test_changes_of_a_failed_gate_reach_range_defaults_epochs_and_trials() -> None:
    spec = small_spec(trainer={"max_epochs": 3, "max_examples": 100}, sweep={"max_epochs": 2, "max_examples": 50})
    changes = {"lr_scale": 0.5, "epochs_delta": 1, "examples_scale": 2.0, "trials_delta": 2}
    after, defaults = adjusted(spec, changes)
    before = spec.sweep.space["learning_rate"]
    moved = after.sweep.space["learning_rate"]
    assert (moved.low, moved.high) == (before.low * 0.5, before.high * 0.5)  # type: ignore[union-attr]
    assert after.sweep.space["temperature"] == spec.sweep.space["temperature"]
    assert defaults["learning_rate"] == spec.hyperparameters["learning_rate"] * 0.5
    assert (after.sweep.max_epochs, after.sweep.max_examples) == (3, 100)
    assert (defaults["max_epochs"], defaults["max_examples"]) == (4, 200)
    assert trial_budget(4, changes) == 6


def test_the_defaults_lead_the_final_fit_to_the_changed_trainer() -> None:
    _, defaults = adjusted(small_spec(trainer={"max_epochs": 3}), {"epochs_delta": 2})
    spec, hyperparameters = split_overrides(small_spec(trainer={"max_epochs": 3}), defaults)
    assert spec.trainer.max_epochs == 5
    assert "max_epochs" not in hyperparameters


@pytest.mark.parametrize(
    "changes",
    [
        {"lr_scale": 0.0},
        {"lr_scale": float("nan")},
        {"epochs_delta": -1},
        {"examples_scale": float("inf")},
        {"speed": 2.0},
    ],
)
def test_senseless_changes_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        adjusted(small_spec(), changes)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_overrides_must_be_whole_numbers_above_zero(value: Any) -> None:
    with pytest.raises(UserError, match="max_epochs"):
        split_overrides(small_spec(), {"max_epochs": value})


def test_values_outside_of_the_space_move_to_its_edge() -> None:
    found = inside({"learning_rate": 1.0, "share": -3, "layers": 6, "mode": "z", "other": 1}, SPACE)
    assert found == {"learning_rate": 1e-2, "share": 0.0, "layers": 5, "mode": "a"}
    assert inside({"layers": 99}, SPACE) == {"layers": 8}


def test_steps_and_conditions_hold_for_the_defaults_as_well() -> None:
    space = {
        "mode": Choice(kind="choice", values=["a", "b"]),
        "share": FloatRange(kind="float", low=0.0, high=1.0, step=0.25, when={"mode": ["b"]}),
    }
    assert inside({"share": 0.6, "mode": "b"}, space) == {"mode": "b", "share": 0.5}
    assert inside({"share": 0.6, "mode": "a"}, space) == {"mode": "a"}


def test_the_grid_starts_with_the_defaults_and_holds_every_point_once() -> None:
    space = {"layers": SPACE["layers"], "mode": SPACE["mode"]}
    on_the_grid = shuffled_grid(space, {"layers": 5, "mode": "b"}, 1)
    assert on_the_grid[0] == {"layers": 5, "mode": "b"}
    assert len(on_the_grid) == len({tuple(sorted(point.items())) for point in on_the_grid}) == 6
    assert shuffled_grid(space, {"layers": 5, "mode": "b"}, 1) == on_the_grid
    assert shuffled_grid(space, {"layers": 5, "mode": "b"}, 2) != on_the_grid
    beside = shuffled_grid(space, {"layers": 4, "mode": "b"}, 1)
    assert beside[0] == {"layers": 4, "mode": "b"} and len(beside) == 7


def test_a_learning_rate_among_choices_or_in_steps_is_scaled_as_well() -> None:
    listed = {"learning_rate": {"kind": "choice", "values": [1e-4, 4e-4]}}
    after, defaults = adjusted(small_spec(sweep={"space": listed}), {"lr_scale": 0.5})
    assert after.sweep.space["learning_rate"].values == [0.5e-4, 2e-4]  # type: ignore[union-attr]
    stepped = {"learning_rate": {"kind": "float", "low": 0.001, "high": 0.003, "step": 0.001}}
    after, defaults = adjusted(small_spec(sweep={"space": stepped}), {"lr_scale": 0.5})
    assert after.sweep.space["learning_rate"].step == 0.0005  # type: ignore[union-attr]
    assert inside(defaults, after.sweep.space)["learning_rate"] == 0.0005


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [threads_per_process(n) for n in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_process(1) == 3
