"""`.windtunnel/demo.json`: what a demo did, in the shape that programs rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from include.cli.follow import Snapshot

#: The keys that are always there.
KEYS = (
    "family",
    "dataset_version",
    "rows_in",
    "rows_clean",
    "rows_quarantined",
    "rows_duplicate",
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
            "rows_duplicate": self.dataset.get("rows_duplicate"),
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


def stage_records(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record per judged stage of the newest rollout, from the ledger's `stage_judged` records in their order.

    `requests` and `errors` are the candidate's; `champion` has the champion's of the same stage, where it had traffic.
    """
    newest = entries[-1].get("rollout") if entries else None
    return [
        {
            "name": entry["stage"],
            "traffic": entry["traffic"],
            "requests": entry["requests"],
            "errors": entry["errors"],
            "verdict": entry["verdict"],
            "seconds": entry["seconds"],
            "shadow": entry.get("shadow", False),
            "champion": _counts(entry.get("champion")) if entry["traffic"] < 1 else None,
            "why": entry.get("why"),
        }
        for entry in entries
        if entry.get("rollout") == newest
    ]


def _counts(side: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {name: side.get(name) for name in ("requests", "errors")} if side else None
