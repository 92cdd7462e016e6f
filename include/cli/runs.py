"""`windtunnel train`: a training run, started through Airflow's REST API as the web form does."""

from __future__ import annotations

import argparse
from typing import Any

from include.cli.context import airflow_api, chosen_family, live_settings
from include.cli.follow import failure, follow
from include.cli.output import Output
from include.cli.views import make_view
from include.store.objects import open_store

_FORM = ("profile", "source", "since", "until", "seed", "trials", "fold", "reason")


def train(arguments: argparse.Namespace, out: Output) -> int:
    """Starts a run; with --follow, shows it and fails if it fails."""
    family = chosen_family(arguments.family)
    settings = live_settings()
    values: dict[str, Any] = {name: getattr(arguments, name) for name in _FORM if getattr(arguments, name) is not None}
    if arguments.compare_only:
        values["releasable"] = False
    api = airflow_api(settings)
    dag_id, release_id = f"train__{family}", f"release__{family}"
    for name in (dag_id, release_id) if arguments.release else (dag_id,):
        api.set_paused(name, False)
    held = not arguments.compare_only and bool((api.dag(release_id) or {}).get("is_paused"))
    run = api.trigger(dag_id, values)
    address = f"{api.url}/dags/{dag_id}/runs/{run.run_id}"
    record: dict[str, Any] = {"dag_id": dag_id, "run_id": run.run_id, "state": run.state, "url": address}
    out.line(f"started {run.run_id}\n{address}")
    if held:
        record["release_paused"] = True
        out.line(f"{release_id} is paused: a candidate that passes its gates is registered, and not released")
        out.line(f"  what to do: windtunnel airflow dags unpause {release_id}, or train with --release")
    if arguments.follow:
        with make_view(out) as view:
            snapshot = follow(api, open_store(settings.store_url), run, view.show)
        if snapshot.run.state != "success":
            raise failure(api, snapshot)
        record["state"] = snapshot.run.state
        record["tasks"] = {task.name: task.state for task in snapshot.tasks}
    if out.as_json:
        out.document(record)
    return 0
