"""`windtunnel cost`: what runs and models cost, and how much work had to be done again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.costs.price import price_text


def cost(arguments: argparse.Namespace, out: Output) -> int:
    """The family's training runs, the newest first, and its registered models."""
    from include.costs.gather import runs_of
    from include.store.objects import open_store

    family, settings = chosen_family(arguments.family), live_settings()
    store = open_store(settings.store_url)
    runs = [_run(store, run) for run in list(reversed(runs_of(store, family)))[: arguments.limit]]
    models = _models(settings.database_url, family)
    if out.as_json:
        out.document({"family": family, "runs": runs, "models": models})
        return 0
    out.table(
        ["run", "tries", "hours", "core h", "GiB h", "GPU h", "steps done again", "cost"],
        [_row(run) for run in runs],
        empty=f"{family} has no run yet: `windtunnel train {family}` starts one",
    )
    if models:
        out.line()
        rows = [(model["version"], model["serves_as"], model["run"], price_text(model["cost"])) for model in models]
        out.table(["model", "serves as", "made by", "cost"], rows)
    if runs and all(run["cost"]["money"] is None for run in runs):
        out.line("n/a: the spec has no prices (resources.prices), or a step that ran before they were kept")
    return 0


def _run(store: Any, run: str) -> dict[str, Any]:
    from include.costs.gather import paid, run_costs

    costs = run_costs(store, run)
    return {
        "run": run,
        "cost": paid(costs),
        "steps_done_again": sum(step.work_lost for step in costs if not step.reused),
        "steps": [vars(step) for step in costs],
    }


def _row(run: Mapping[str, Any]) -> tuple[Any, ...]:
    total, used = run["cost"], run["cost"]["used"]
    hours = (used["cpu_seconds"], used["gib_seconds"], used["gpu_seconds"])
    return (
        run["run"].partition("/")[2],
        total["tries"],
        round(total["seconds"] / 3600, 3),
        *(round(seconds / 3600, 3) for seconds in hours),
        run["steps_done_again"],
        price_text(total),
    )


def _models(database_url: str, family: str) -> list[dict[str, Any]]:
    from include.release.ledger import Ledger
    from include.release.registry import list_versions
    from include.store.database import open_database

    engine = open_database(database_url)
    route = Ledger(engine).route(family)
    serving = {variant.version: variant.role.value for variant in route.table.variants} if route else {}
    return [
        {
            "version": version.version,
            "serves_as": serving.get(version.version, ""),
            "run": str(version.record.get("run", "")),
            "cost": version.record.get("cost") or {},
            "work_lost": version.record.get("work_lost"),
            "adjusted": version.record.get("adjusted") or {},
        }
        for version in reversed(list_versions(engine, family))
        if not version.is_baseline
    ]
