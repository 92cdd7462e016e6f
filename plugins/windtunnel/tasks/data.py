"""The light task of `data__<family>`: what to read."""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context

from plugins.windtunnel.runs import run_any_spec, run_name, run_params


def plan_data(family: str) -> dict[str, Any]:
    """Fixes what the run reads: validated parameters, source and interval."""
    context = get_current_context()
    params, spec = run_params(context), run_any_spec(context, family)
    plan = {
        "run": run_name(context),
        "source": params.source or spec.data.source,
        "since": params.since.isoformat() if params.since else None,
        "until": params.until.isoformat() if params.until else None,
        "reason": params.reason,
    }
    print(f"plan: {plan}")
    return plan
