"""What a model costs to serve: latency, throughput, memory and size, each package in a process of its own.

The packages are asked in turns, request by request, and the order of a turn alternates. Whatever else the machine does
then hits all of them alike, and differences can be taken request by request. Only one of the processes works at a time.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import numpy as np

from include.errors import WindtunnelError
from include.evaluation.intervals import (
    Floats,
    Interval,
    exact,
    paired_quantile_interval,
    quantile_interval,
)
from include.settings import PROJECT_ROOT

BATCH = 16  # as many as the gateway gives to one model call
WARM_UPS = 5
_QUANTILES = {"latency_p50_ms": 0.50, "latency_p95_ms": 0.95}


class PerformanceError(WindtunnelError):
    """A model could not be measured: its process died or did not answer."""


@dataclass(frozen=True)
class Timings:
    """Raw measurements of one package; requests and batches are in the order in which they were asked.

    Attributes:
        request_ms: Latency of single requests, shape (requests,).
        batch_ms: Latency of batches of `BATCH`, shape (batches,).
        peak_mb: Peak resident memory of the serving process.
        load_seconds: From the package on disk to a runtime that answers.
    """

    request_ms: Floats
    batch_ms: Floats
    peak_mb: float
    load_seconds: float


_NOTHING = Timings(np.empty(0), np.empty(0), 0.0, 0.0)


class ModelProcess:
    """One package in a process of its own; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        command = [sys.executable, "-m", "include.evaluation.worker", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT_ROOT
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # every answer is in; a model's own way of ending may take a second
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # the process is gone already; what it left unsaid does not matter
                cast("IO[str]", pipe).close()
        self._process.wait()

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> float:
        """Milliseconds to answer the batch."""
        return float(self._ask({"op": "predict", "inputs": inputs})["ms"])

    def facts(self) -> dict[str, float]:
        """Load time and peak memory up to now."""
        return self._ask({"op": "facts"})

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        try:
            stdin, stdout = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
            stdin.write(json.dumps(command) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PerformanceError(
                f"the process that serves the model ended with status {self._process.wait()}",
                where=str(self._folder),
                hint="its error stands in the log above",
            )
        return cast("dict[str, Any]", json.loads(line))


def measure(
    folders: Mapping[str, Path],
    inputs: Sequence[Mapping[str, Any]],
    requests: int,
    *,
    enough: Callable[[Mapping[str, Timings]], bool] = lambda _: True,
    rounds: int = 1,
) -> dict[str, Timings]:
    """Measures every package in `folders` (by any key) on `requests` single requests and as many again in batches.

    Args:
        inputs: Request inputs to draw from, repeated when there are fewer than `requests`.
        enough: Whether what was measured so far decides what it is needed for; if not, another round is measured.
        rounds: At most so many rounds.

    Raises:
        PerformanceError: There is nothing to ask, or a process died.
    """
    if not inputs:
        raise PerformanceError("there is no request to measure with", hint="is the test split empty?")
    chosen = [inputs[index % len(inputs)] for index in range(requests)]
    batches = [chosen[start : start + BATCH] for start in range(0, requests - BATCH + 1, BATCH)]
    timings: dict[str, Timings] = {}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(ModelProcess(folder)) for name, folder in folders.items()}
        for process in processes.values():
            for item in chosen[:WARM_UPS]:
                process.predict(columns([item]))
        for _ in range(rounds):
            request_ms = _in_turns(processes, [columns([item]) for item in chosen])
            batch_ms = _in_turns(processes, [columns(batch) for batch in batches])
            facts = {name: process.facts() for name, process in processes.items()}
            for name, fact in facts.items():
                before = timings.get(name, _NOTHING)
                timings[name] = Timings(
                    np.concatenate([before.request_ms, request_ms[name]]),
                    np.concatenate([before.batch_ms, batch_ms[name]]),
                    fact["peak_mb"],
                    fact["load_seconds"],
                )
            if enough(timings):
                break
    return timings


def columns(items: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Requests as the batch that `ModelRuntime.predict` takes."""
    return {name: [item[name] for item in items] for name in items[0]}


def cost_summary(timings: Timings, package_bytes: int, confidence: float) -> dict[str, Interval]:
    """Latency quantiles, throughput, memory and size of one package."""
    rates = BATCH * 1000.0 / timings.batch_ms
    return {
        **{name: quantile_interval(timings.request_ms, q, confidence=confidence) for name, q in _QUANTILES.items()},
        "throughput_per_second": quantile_interval(rates, 0.5, confidence=confidence),
        "memory_mb": exact(timings.peak_mb),
        "package_mb": exact(package_bytes / 1e6),
    }


def cost_comparison(
    candidate: Timings, reference: Timings, sizes: tuple[int, int], *, confidence: float, resamples: int, seed: int
) -> dict[str, Interval]:
    """Candidate minus reference, request by request; `sizes` are both packages' bytes."""
    rates = [BATCH * 1000.0 / timings.batch_ms for timings in (candidate, reference)]

    def paired(left: Floats, right: Floats, quantile: float) -> Interval:
        return paired_quantile_interval(left, right, quantile, confidence=confidence, resamples=resamples, seed=seed)

    latency = {name: paired(candidate.request_ms, reference.request_ms, q) for name, q in _QUANTILES.items()}
    return {
        **latency,
        "throughput_per_second": paired(rates[0], rates[1], 0.5),
        "memory_mb": exact(candidate.peak_mb - reference.peak_mb),
        "package_mb": exact((sizes[0] - sizes[1]) / 1e6),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _in_turns(
    processes: Mapping[str, ModelProcess], batches: Sequence[Mapping[str, Sequence[Any]]]
) -> dict[str, Floats]:
    taken: dict[str, list[float]] = {name: [] for name in processes}
    for turn, inputs in enumerate(batches):
        order = list(processes) if turn % 2 == 0 else list(reversed(list(processes)))
        for name in order:
            taken[name].append(processes[name].predict(inputs))
    return {name: np.asarray(values, dtype=np.float64) for name, values in taken.items()}
