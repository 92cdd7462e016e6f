"""The simulation can tell a test that keeps its promise from one that does not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import experiments


def test_simulated_experiments_stop_where_the_analysis_would_stop() -> None:
    rng = np.random.default_rng(3)
    own, naive = experiments.simulate(rng, 100, 0.2, 0.26, 10)
    assert own.crossed.mean() > 0.95 and (own.estimate > 0).all()
    assert own.units.mean() > naive.units.mean() >= 1000, "looking at any time costs units; nobody stops below 1000"
    null, naive = experiments.simulate(rng, 200, 0.2, 0.2, 10)
    assert null.crossed.mean() < 0.1 < naive.crossed.mean()
    assert null.covered.mean() > 0.9 > naive.covered.mean()


def test_a_simulation_of_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "_rates", lambda *_: (np.full((50, 1000), 0.1), np.full((50, 1000), 0.1)))
    with pytest.raises(AssertionError, match="the simulation says"):
        experiments.simulate(np.random.default_rng(1), 50, 0.2, 0.2, 10)


def test_one_whole_experiment_on_alike_variants_ends_without_a_winner() -> None:
    assert experiments._experiment("aa0", units=3000, looks=10) in {"CONTINUE", "KEEP"}
