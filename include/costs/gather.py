"""What steps, runs and models cost, from what the steps left in the object store."""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from include.costs.price import cost_record, total
from include.failures.records import read_failures
from include.steps.document import RunDocument
from include.store.objects import ObjectNotFound, ObjectStore

_DOCUMENT = re.compile(r"/([a-z_]+)-(\d+)\.json$")


@dataclass(frozen=True)
class StepCost:
    """What one step of a run cost.

    Attributes:
        reused: The work had been done by another run, which paid for it.
        done: The step has a result.
        record: `include.costs.price.cost_record`; None where an old result has none.
        work_lost: Steps that a training had to do again.
    """

    step: str
    slot: int
    done: bool
    reused: bool
    record: dict[str, Any] | None
    work_lost: int


def step_cost(store: ObjectStore, document: RunDocument, seconds: float) -> dict[str, Any]:
    """What a step cost so far: all tries that ended badly, and this process with its children, for `seconds` so far.

    Pods that do the step together do equal work, so each is reckoned as this one is.
    """
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    now = {
        "seconds": seconds * document.nodes,
        "cpu_seconds": cpu_seconds * document.nodes,
        "peak_bytes": max(own.ru_maxrss, children.ru_maxrss) * (1024 if sys.platform == "linux" else 1),
    }
    failed = [failure.usage for failure in read_failures(store, document.output)]
    return cost_record(document.spec.resources, _runner(document), [*failed, now])


def run_costs(store: ObjectStore, run: str) -> list[StepCost]:
    """What each step of a pipeline run cost, in the order of their names."""
    return list(_run_costs(store, run))


def paid(costs: list[StepCost]) -> dict[str, Any]:
    """What the run itself cost: without work that it found done."""
    return total(cost.record or _UNKNOWN for cost in costs if not cost.reused)


def behind_model(store: ObjectStore, run: str) -> dict[str, Any]:
    """What it took to make the model of a run, whoever paid: the sum, and `by_step` the money of each step."""
    costs = run_costs(store, run)
    by_step: dict[str, float | None] = {}
    for step in sorted({cost.step for cost in costs}):
        by_step[step] = total(cost.record or _UNKNOWN for cost in costs if cost.step == step)["money"]
    return {**total(cost.record or _UNKNOWN for cost in costs), "by_step": by_step}


def runs_of(store: ObjectStore, family: str) -> list[str]:
    """Names of the family's training runs that left documents, by name (which for runs of Airflow begins with the
    kind of run and goes on with the time)."""
    found = {"/".join(key.split("/")[1:3]) for key in store.keys(f"runs/train__{family}/")}
    return sorted(found, key=lambda run: run.rpartition("__")[2])


_UNKNOWN: dict[str, Any] = {
    "tries": 0, "seconds": 0.0, "asked": {}, "used": {}, "money": None, "currency": None,
}  # fmt: skip


def _run_costs(store: ObjectStore, run: str) -> Iterator[StepCost]:
    for key in sorted(store.keys(f"runs/{run}/")):
        match = _DOCUMENT.search(key)
        if match is None:  # progress
            continue
        try:
            document = RunDocument.model_validate_json(store.get(key))
        except ValidationError:  # of another version of this code
            continue
        result = _read(store, document.result_key)
        if result is not None:
            lost = (result.get("outputs") or {}).get("work_lost") or {}
            reused = result.get("run", run) != run
            yield StepCost(match[1], int(match[2]), True, reused, result.get("cost"), int(lost.get("steps", 0)))
            continue
        failures = [failure for failure in read_failures(store, document.output) if failure.run == run]
        record = cost_record(document.spec.resources, _runner(document), [failure.usage for failure in failures])
        yield StepCost(match[1], int(match[2]), False, False, record, 0)


def _read(store: ObjectStore, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(store.get(key))
    except ObjectNotFound:
        return None
    return found


def _runner(document: RunDocument) -> str:
    return str(document.context.get("runner", "local"))
