"""The table at the end of a demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.cli.output import Output, show


def show_summary(record: Mapping[str, Any], out: Output) -> None:
    """What a demo did, for people."""
    out.line()
    out.table(["summary", ""], [(name, text) for name, text in _facts(record) if text])
    if record["metrics"]:
        rows = [(name, m["value"], interval(m), m["n"]) for name, m in record["metrics"].items()]
        out.line()
        out.table(["metric (test)", "value", "interval", "n"], rows)
    if record.get("comparisons"):
        out.line()
        out.table(["compared with", "metric", "difference", "interval", "n"], _comparisons(record["comparisons"]))
    if record["stages"]:
        columns = ("name", "traffic", "requests", "errors", "seconds", "verdict")
        stages = [{**stage, "traffic": share(stage)} for stage in record["stages"]]
        out.line()
        out.table(["stage", *columns[1:]], [[stage[name] for name in columns] for stage in stages])
    if record["tasks"]:
        slowest = sorted(record["tasks"], key=lambda task: -task["seconds"])[:5]
        out.line()
        text = ", ".join(f"{task['task_id']} {task['seconds']:.0f} s" for task in slowest)
        out.line(f"slowest tasks: {text}", style="dim")


def share(stage: Mapping[str, Any]) -> str:
    """How much of the traffic the candidate had."""
    return "shadow" if stage.get("shadow") else f"{stage['traffic']:.0%}"


def interval(metric: Mapping[str, Any]) -> str:
    """`[0.83, 0.89]`, empty where there is none."""
    if metric.get("low") is None or metric.get("high") is None:
        return ""
    return f"[{show(float(metric['low']))}, {show(float(metric['high']))}]"


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    champion, before, traffic = record["champion"], record["champion_before"], record["traffic"]
    params = ", ".join(f"{name} {show(value)}" for name, value in (record["best_params"] or {}).items())
    rows = ""
    if record["rows_in"] is not None:
        rows = (
            f"{record['rows_in']} in, {record['rows_clean']} clean, {record['rows_quarantined']} in quarantine, "
            f"{record['rows_duplicate']} duplicates"
        )
    asked = ""
    if traffic:
        failed = f", {traffic['failed']} failed" if traffic.get("failed") else ", none failed"
        asked = f"{traffic.get('sent')} questions{failed}"
    return [
        ("family", record["family"]),
        ("dataset", str(record["dataset_version"] or "")),
        ("rows", rows),
        ("best parameters", params),
        ("verdict", f"{record['verdict'] or 'none'} (attempt {record['attempts']})"),
        ("candidate", str(record["model_version"] or "")),
        ("champion before", str(before["version"]) if before else "none"),
        ("champion now", str(champion["version"]) if champion else "none"),
        ("live traffic", asked),
        ("time", f"{record['wall_seconds']:.0f} s, {record['startup_seconds'] or 0:.0f} s of it to start"),
    ]


def _comparisons(comparisons: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    rows = []
    for reference, metrics in comparisons.items():
        for name, metric in metrics.items():
            if isinstance(metric, Mapping) and metric.get("difference") is not None:
                rows.append((reference, name, f"{metric['difference']:+.4f}", interval(metric), metric.get("n")))
    return rows
