"""Arguments that all generated DAGs share."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from include.settings import Settings
from include.spec import BaseFamilySpec
from plugins.windtunnel.callbacks import on_failure

#: Light tasks finish in seconds; one that hangs is ended.
LIGHT_TIMEOUT = timedelta(minutes=15)


def default_profile() -> str:
    """The profile that runs use unless told otherwise."""
    return Settings.from_env().profile


def dag_arguments(spec: BaseFamilySpec, kind: str, description: str) -> dict[str, Any]:
    """Identity, ownership, retries, time-outs and callbacks of `<kind>__<family>`."""
    task_arguments: dict[str, Any] = {
        "owner": spec.owner.team,
        "retries": 2,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": LIGHT_TIMEOUT,
        "on_failure_callback": on_failure,
    }
    return {
        "dag_id": f"{kind}__{spec.family}",
        "dag_display_name": f"{kind}: {spec.title}",
        "description": description,
        "start_date": _start(spec),
        "max_active_runs": 1,
        "default_args": task_arguments,
        "tags": ["windtunnel", kind, spec.family, *spec.tags],
    }


def _start(spec: BaseFamilySpec) -> datetime | None:
    """The first interval to catch up with. None without catching up: with a date, Airflow starts the last run it
    missed as soon as the DAG is switched on, and nobody asked for that one."""
    if not spec.schedule.catchup:
        return None
    return datetime.combine(spec.schedule.start, time(), tzinfo=UTC)
