"""`.windtunnel/demo.json`: what a demo did, in the shape that programs rely on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from include.cli.follow import Snapshot

#: The keys that are always there.
KEYS = (
    "family",
    "dataset_version",
    "rows_in",
    "rows_clean",
    "rows_quarantined",
    "best_params",
    "metrics",
    "verdict",
    "model_version",
    "model_digest",
    "stages",
    "champion",
    "answers",
    "tasks",
    "wall_seconds",
)


@dataclass
class DemoRecord:
    """What is known of a demo so far; `to_json` gives every key of `KEYS`, null where it is not known."""

    family: str
    dataset: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    registered: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()
    champion: Mapping[str, Any] | None = None
    champion_before: Mapping[str, Any] | None = None
    answers: Sequence[Mapping[str, Any]] = ()
    tasks: list[dict[str, Any]] = field(default_factory=list)
    traffic: Mapping[str, Any] | None = None
    startup_seconds: float | None = None
    wall_seconds: float | None = None
    attempts: int = 0
    promoted: bool = False
    error: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)

    def add_tasks(self, snapshot: Snapshot) -> None:
        """The tasks of a run that ended, in the order in which they started."""
        for task in snapshot.tasks:
            seconds = task.seconds(snapshot.at)
            if seconds is not None and task.state != "skipped":
                self.tasks.append(
                    {
                        "task_id": task.name,
                        "seconds": round(seconds, 3),
                        "dag_id": snapshot.run.dag_id,
                        "state": task.state,
                        "tries": task.try_number,
                    }
                )

    def to_json(self) -> dict[str, Any]:
        summary = self.evaluation.get("summary") or {}
        record: dict[str, Any] = {
            "family": self.family,
            "dataset_version": self.dataset.get("dataset_version"),
            "rows_in": self.dataset.get("rows_in"),
            "rows_clean": self.dataset.get("rows_clean"),
            "rows_quarantined": self.dataset.get("rows_quarantined"),
            "best_params": self.chosen.get("hyperparameters"),
            "metrics": {name: metric_record(metric) for name, metric in summary.items() if isinstance(metric, Mapping)},
            "verdict": self.gate.get("verdict"),
            "model_version": self.registered.get("model_version"),
            "model_digest": self.registered.get("digest"),
            "stages": list(self.stages),
            "champion": self.champion,
            "answers": list(self.answers),
            "tasks": self.tasks,
            "wall_seconds": self.wall_seconds,
        }
        return {
            **record,
            "reasons": self.dataset.get("reasons"),
            "why": self.gate.get("why"),
            "comparisons": self.evaluation.get("comparisons"),
            "champion_before": self.champion_before,
            "promoted": self.promoted,
            "attempts": self.attempts,
            "traffic": self.traffic,
            "startup_seconds": self.startup_seconds,
            "plan": dict(self.plan),
            "error": self.error,
        }


def metric_record(metric: Mapping[str, Any]) -> dict[str, Any]:
    """A metric's value with its interval and the number of examples behind it."""
    return {name: metric.get(name) for name in ("value", "low", "high", "n")}


def stage_records(entries: Iterable[Mapping[str, Any]], traffic: Mapping[str, float]) -> list[dict[str, Any]]:
    """One record per judged stage, from the ledger's `stage_judged` entries in their order.

    Args:
        entries: Each with `stage`, `verdict`, `at`, `entered_at` and `observed` (requests and errors per variant).
        traffic: Stage name -> share of the candidate, from the spec.
    """
    return [
        {
            "name": entry["stage"],
            "traffic": traffic.get(entry["stage"]),
            "requests": _count(entry, "requests"),
            "errors": _count(entry, "errors"),
            "verdict": entry["verdict"],
            "seconds": _seconds(entry),
            "why": entry.get("why"),
        }
        for entry in entries
    ]


def _count(entry: Mapping[str, Any], what: str) -> int | None:
    """Of both variants together: nobody's request counts for nothing."""
    observed = entry.get("observed") or {}
    counts = [side.get(what) for side in observed.values() if isinstance(side, Mapping) and side.get(what) is not None]
    if counts:
        return int(sum(counts))
    return int(observed[what]) if isinstance(observed.get(what), int) else None


def _seconds(entry: Mapping[str, Any]) -> float | None:
    if entry.get("seconds") is not None:
        return round(float(entry["seconds"]), 2)
    entered, judged = entry.get("entered_at"), entry.get("at")
    if entered is None or judged is None:
        return None
    return round((_moment(judged) - _moment(entered)).total_seconds(), 2)


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
