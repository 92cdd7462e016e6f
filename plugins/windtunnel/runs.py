"""What a task knows about its run: parameters, spec, data interval, who started it and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from include.spec import AnyFamilySpec, FamilySpec, RunParams, parse_params, resolve_any_spec, resolve_spec
from include.steps.document import run_key

_OF_DRILLS = frozenset({"fault", "live"})  # fields of a drill's form; they go into the step's inputs
BACKFILL = "backfill"
SCHEDULED = "scheduled"


def run_params(context: Mapping[str, Any]) -> RunParams:
    """The run's validated parameters, with what the kind of run decides: interval and releasability."""
    request = _trigger_extra(context)  # an automatic retrain works by the parameters of whoever asked for it
    given = {name: value for name, value in context["params"].items() if name not in _OF_DRILLS}
    params = parse_params({**given, **request.get("params", {})})
    kind = run_kind(context)
    if kind == BACKFILL:
        start, end = context.get("data_interval_start"), context.get("data_interval_end")
        if start is not None and end is not None:
            params = params.model_copy(update={"since": start.date(), "until": _exclusive(end.date(), start.date())})
        return params.model_copy(update={"releasable": False, "reason": params.reason or "backfill"})
    if kind == SCHEDULED:
        return params.model_copy(update={"reason": params.reason or "schedule"})
    return params.model_copy(update={"reason": params.reason or str(request.get("reason") or kind)})


def run_spec(context: Mapping[str, Any], family: str) -> FamilySpec:
    """The spec that this run works by, of a family with a model."""
    return resolve_spec(family, run_params(context))


def run_any_spec(context: Mapping[str, Any], family: str) -> AnyFamilySpec:
    """The spec that this run works by, of any family."""
    return resolve_any_spec(family, run_params(context))


def run_name(context: Mapping[str, Any]) -> str:
    """The run's name in object keys and ledger entries."""
    run = context["dag_run"]
    return run_key(run.dag_id, run.run_id)


def run_kind(context: Mapping[str, Any]) -> str:
    """`manual`, `scheduled`, `backfill`, `asset_triggered` or `operator_triggered`."""
    kind = getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type)
    return str(kind)


def run_actor(context: Mapping[str, Any]) -> str:
    """Who started the run: the user where Airflow knows one, else the kind of run."""
    user = getattr(context["dag_run"], "triggering_user_name", None)
    return f"{user or run_kind(context)} via {context['dag_run'].dag_id}"


def _exclusive(end: date, start: date) -> date:
    return max(end, start + timedelta(days=1))


def _trigger_extra(context: Mapping[str, Any]) -> dict[str, Any]:
    """What the newest asset event that triggered this run carried."""
    found: dict[str, Any] = {}
    for events in (context.get("triggering_asset_events") or {}).values():
        for event in events:
            found = dict(event.extra or found)
    return found
