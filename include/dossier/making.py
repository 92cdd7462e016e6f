"""How a model was made: its search, its training, and what that cost, from what the steps left in the object store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from include.costs.gather import behind_model
from include.costs.price import price_text
from include.dossier.stored import read_json
from include.dossier.subject import Subject
from include.errors import WindtunnelError
from include.failures.records import read_failures
from include.steps.document import document_key
from include.store.objects import ObjectStore

_SLOT = re.compile(r"/sweep-(\d+)\.json$")

_Record = dict[str, Any]


def search_of(store: ObjectStore, subject: Subject) -> _Record | None:
    """The search that its hyperparameters come from; None where there was none (a baseline).

    Returns:
        `study`, `metric`, `value` (of the metric in the study), `hyperparameters`, `seed`, `trials`, `repeats`,
        `stopped` (why before it had all its trials), `spent`, `confirmed` (what repeats over seeds decided, with mean
        and spread of each), `results` (whether the workers' results are still in the store).
    """
    if subject.kind == "baseline":
        return None
    known = subject.record.get("sweep") or {}
    workers = _workers(store, subject.run)
    found: Mapping[str, Any] = workers[0] if workers else {}
    adjusted = subject.record.get("adjusted") or {}
    return {
        "study": known.get("study") or found.get("study"),
        "metric": known.get("metric"),
        "value": known.get("value", (found.get("best") or {}).get("value")),
        "hyperparameters": subject.record.get("hyperparameters"),
        "adjusted": adjusted,
        "seed": subject.record.get("seed"),
        "trials": sum(int(worker.get("trials_run") or 0) for worker in workers) if workers else None,
        "repeats": sum(int(worker.get("repeats_run") or 0) for worker in workers) if workers else None,
        "stopped": found.get("stopped"),
        "spent": found.get("spent"),
        "confirmed": known.get("confirmed") or found.get("confirmed"),
        "results": bool(workers),
    }


def training_of(store: ObjectStore, subject: Subject) -> _Record | None:
    """The training; None for a baseline.

    Returns:
        `run`, `mlflow_run`, `metrics` (on validation), `steps`, `best_epoch`, `seconds`, `samples_per_second`,
        `resumed_from_step`, `work_lost`, `failures` ({ending, text, action, at} each), `same_model` (whether the stored
        result names this very model), `result` (its key; None where the store has none).
    """
    if subject.kind == "baseline":
        return None
    output = _output(store, subject.run, "fit")
    result = read_json(store, f"{output}/result.json") if output else None
    made: Mapping[str, Any] = (result or {}).get("outputs") or {}
    return {
        "run": subject.run,
        "mlflow_run": subject.record.get("mlflow_run") or made.get("mlflow_run"),
        "metrics": subject.record.get("validation_metrics") or made.get("metrics"),
        "steps": made.get("steps"),
        "best_epoch": made.get("best_epoch"),
        "seconds": made.get("seconds_training"),
        "samples_per_second": made.get("samples_per_second"),
        "resumed_from_step": made.get("resumed_from_step"),
        "work_lost": subject.record.get("work_lost") or made.get("work_lost"),
        "failures": _failures(store, output) if output else [],
        "same_model": made.get("digest") == subject.digest if made else None,
        "result": f"{output}/result.json" if result is not None else None,
    }


def cost_of(store: ObjectStore, subject: Subject) -> _Record | None:
    """What it took to make the model (`include.costs.gather.behind_model`) with its price in words; None: not known."""
    cost = subject.record.get("cost")
    if not cost and subject.run and subject.kind != "baseline":
        try:
            cost = behind_model(store, subject.run)
        except (WindtunnelError, ValueError, KeyError, TypeError):  # results of another version of this code
            return None
    return {**cost, "price": price_text(cost)} if cost else None


def _workers(store: ObjectStore, run: str | None) -> list[_Record]:
    """Outputs of the search's workers, in the order of their slots."""
    if not run:
        return []
    found = []
    for key in _keys(store, f"runs/{run}/sweep-"):
        if _SLOT.search(key) and (output := (read_json(store, key) or {}).get("output")):
            result = read_json(store, f"{output}/result.json")
            if result is not None:
                found.append(result.get("outputs") or {})
    return found


def _output(store: ObjectStore, run: str | None, step: str) -> str | None:
    """Where a step of the run wrote. Only this field: the document may be of another version of this code."""
    document = read_json(store, document_key(run, step)) if run else None
    return str(document["output"]) if document and "output" in document else None


def _failures(store: ObjectStore, output: str) -> list[_Record]:
    try:
        failures = read_failures(store, output)
    except (WindtunnelError, ValueError):  # of another version of this code
        return []
    return [
        {"ending": one.ending.value, "text": one.text, "action": one.action.value, "at": one.at.isoformat()}
        for one in failures
    ]


def _keys(store: ObjectStore, prefix: str) -> list[str]:
    try:
        return list(store.keys(prefix))
    except WindtunnelError:
        return []
