"""`windtunnel versions`, `ledger` and `data`: what was made, and what became of it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.dossier import words

_DETAIL = re.compile(r"_(under|gap|worst)_")


def versions(arguments: argparse.Namespace, out: Output) -> int:
    """Registered model versions, the newest first, and where each of them stands."""
    from include.dossier.rollouts import rollouts_of
    from include.dossier.standing import standing_of
    from include.dossier.subject import of_version, read_history

    family = chosen_family(arguments.family)
    history = read_history(live_settings(), family)
    serving = {variant.version: variant.role.value for variant in history.route.table.variants} if history.route else {}
    found = [
        (version, standing_of(history, of_version(version), rollouts_of(history, version.version)))
        for version in reversed(history.versions)
    ]
    if out.as_json:
        out.document(
            [
                {**vars(version), "serves_as": serving.get(version.version), "standing": standing}
                for version, standing in found
            ]
        )
        return 0
    rows = [
        (
            version.version,
            f"{standing['state']} {words.percent(standing['share'])}" if standing["share"] else standing["state"],
            version.verdict,
            version.record.get("change"),
            version.dataset_version,
            metrics_text(version.record),
            version.digest[:12],
            f"{version.registered_at:%Y-%m-%d %H:%M}",
        )
        for version, standing in found
    ]
    columns = ["version", "stands", "verdict", "change", "dataset", "metrics", "digest", "registered"]
    out.table(columns, rows, empty=f"{family} has no model version yet: `windtunnel train {family}` makes one")
    return 0


def metrics_text(record: Mapping[str, Any]) -> str:
    """`recall_at_10 0.861 [0.83, 0.89]` and so on; empty where the record has no metrics.

    What changed requests and groups showed is left to the model card: there are many of them.
    """
    parts = []
    for name, metric in (record.get("metrics") or {}).items():
        if isinstance(metric, Mapping) and "value" in metric and not _DETAIL.search(name):
            interval = f" [{metric['low']:.3f}, {metric['high']:.3f}]" if metric.get("low") is not None else ""
            parts.append(f"{name} {metric['value']:.3f}{interval}")
    return "\n".join(parts)


def ledger(arguments: argparse.Namespace, out: Output) -> int:
    """The last entries of the ledger, the newest last."""
    from include.release.ledger import Ledger
    from include.store.database import open_database

    family = chosen_family(arguments.family)
    entries = Ledger(open_database(live_settings().database_url)).entries(family, limit=arguments.limit)[::-1]
    if out.as_json:
        out.document([{**vars(entry), "event": entry.event.value} for entry in entries])
        return 0
    rows = [
        (f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.event.value, entry.model_version, brief(entry.record), entry.actor)
        for entry in entries
    ]
    out.table(["when (UTC)", "what", "version", "", "by"], rows, empty=f"nothing has happened to {family} yet")
    return 0


def brief(record: Mapping[str, Any], limit: int = 160) -> str:
    """The plain values of a ledger record, on one line."""
    parts = []
    for key, value in record.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = "; ".join(value)
        if isinstance(value, str | int | float) and value != "" and key not in {"rollout", "digest"}:
            parts.append(f"{key} {value}")
    text = ", ".join(parts)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
