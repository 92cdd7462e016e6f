"""The light task of `data__<family>`: what to read."""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context

from plugins.windtunnel.runs import run_name, run_params


def plan_data(family: str) -> dict[str, Any]:
    """Fixes what the run reads: validated parameters, source and interval."""
    context = get_current_context()
    params = run_params(context)
    plan = {
        "run": run_name(context),
        "source": params.source,
        "since": params.since.isoformat() if params.since else None,
        "until": params.until.isoformat() if params.until else None,
        "reason": params.reason,
    }
    print(f"plan: {plan}")
    return plan
