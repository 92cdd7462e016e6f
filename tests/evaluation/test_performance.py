"""Cost of serving, measured on real processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from include.evaluation.performance import (
    ModelProcess,
    PerformanceError,
    Timings,
    columns,
    cost_comparison,
    cost_summary,
    measure,
)
from include.serving.package import fetch
from include.settings import Settings
from include.store.objects import ObjectStore

REQUESTS = [{"question": f"question {number}"} for number in range(40)]


@pytest.fixture
def folder(settings: Settings, store: ObjectStore, package: Callable[..., str], tmp_path: Path) -> Callable[..., Path]:
    return lambda **config: fetch(store, "tiny", package(**config), tmp_path / "cache")


@pytest.mark.slow
def test_a_slower_model_is_found_slower_on_every_request(folder: Callable[..., Path]) -> None:
    timings = measure({"fast": folder(ms=1), "slow": folder(ms=4)}, REQUESTS, 40)
    assert (timings["slow"].request_ms > timings["fast"].request_ms).mean() > 0.9
    found = cost_comparison(timings["slow"], timings["fast"], (10, 10), confidence=0.95, resamples=500, seed=1)
    assert found["latency_p50_ms"].low > 1.0
    assert found["throughput_per_second"].high < 0
    costs = cost_summary(timings["slow"], 2_500_000, 0.95)
    assert costs["latency_p50_ms"].value >= 4.0
    assert 100 < costs["throughput_per_second"].value < 250
    assert costs["package_mb"].value == 2.5
    assert 10 < costs["memory_mb"].value < 1000


@pytest.mark.slow
def test_more_is_measured_until_it_is_enough(folder: Callable[..., Path]) -> None:
    seen: list[int] = []

    def enough(timings: Mapping[str, Timings]) -> bool:
        seen.append(timings["model"].request_ms.size)
        return len(seen) == 2

    timings = measure({"model": folder()}, REQUESTS, 20, enough=enough, rounds=5)
    assert seen == [20, 40]
    assert timings["model"].request_ms.size == 40
    assert measure({"model": folder()}, REQUESTS, 20, enough=lambda _: False, rounds=3)["model"].request_ms.size == 60


@pytest.mark.slow
def test_memory_is_that_of_the_serving_process_alone(folder: Callable[..., Path]) -> None:
    ballast = np.ones(60_000_000)  # 480 MB here must not be seen there
    timings = measure({"model": folder()}, REQUESTS, 20)
    assert timings["model"].peak_mb < 300
    assert ballast.size


@pytest.mark.slow
def test_a_model_that_dies_is_named(folder: Callable[..., Path]) -> None:
    place = folder(dies=True)
    with pytest.raises(PerformanceError, match="status 3") as caught:
        measure({"model": place}, REQUESTS, 20)
    assert caught.value.where == str(place)


@pytest.mark.slow
def test_no_process_is_left_behind(folder: Callable[..., Path]) -> None:
    with pytest.raises(RuntimeError, match="elsewhere"), ModelProcess(folder()) as process:
        process.facts()
        raise RuntimeError("elsewhere")
    assert process._process.poll() is not None


def test_there_must_be_something_to_ask() -> None:
    with pytest.raises(PerformanceError, match="no request"):
        measure({}, [], 20)


def test_requests_become_columns() -> None:
    assert columns([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]) == {"a": [1, 2], "b": ["x", "y"]}


def test_throughput_counts_answers_not_batches() -> None:
    timings = Timings(np.full(20, 10.0), np.full(4, 80.0), 100.0, 1.0)
    assert cost_summary(timings, 1, 0.95)["throughput_per_second"].value == pytest.approx(200.0)
