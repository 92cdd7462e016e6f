"""Leaves a finished study where people look: its page with the step's output, and a run in MLflow."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import optuna

from include.steps.entry import StepContext
from include.store.scratch import scratch_folder
from include.training.study_report import study_page, study_plots, study_record
from include.training.tracking import experiment_id

STUDY_TAG = "windtunnel.study"
PAGE = "study.html"

log = logging.getLogger(__name__)


def leave_report(context: StepContext, study: optuna.Study) -> str | None:
    """The MLflow run that holds the study's trials and plots; None where MLflow failed, which is logged.

    Started again, it goes on with the same run.
    """
    url = context.settings.optuna_url
    record = study_record(url, study)
    plots = study_plots(study)
    page = study_page(record, plots)
    context.store.put(f"{context.document.output}/docs/{PAGE}", page.encode())
    try:
        with scratch_folder("study") as folder:
            (folder / PAGE).write_text(page, encoding="utf-8")
            (folder / "study.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")
            for name, figure in plots.items():
                figure.write_json(folder / f"{name}.json")
            return _run(context, record, folder)
    except Exception as error:  # whatever ails MLflow must not reach the sweep; it is logged
        log.warning("MLflow logging failed, the sweep goes on without it: %s", error)
        return None


def _run(context: StepContext, record: dict[str, Any], folder: Path) -> str:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    document, client = context.document, MlflowClient(context.settings.mlflow_url)
    experiment = experiment_id(client, context.settings.mlflow_url, document.family)
    found = client.search_runs([experiment], f"tags.`{STUDY_TAG}` = '{record['study']}'", max_results=1)
    if found:
        run = str(found[0].info.run_id)
        logged = {(point.step, name) for name in record["metrics"] for point in client.get_metric_history(run, name)}
    else:
        tags = {
            STUDY_TAG: record["study"],
            "windtunnel.family": document.family,
            "windtunnel.dataset_version": str(document.inputs["dataset_version"]),
            "windtunnel.code_version": document.code_version,
            "windtunnel.run": document.run,
        }
        run = client.create_run(experiment, tags=tags, run_name=f"sweep {record['study']}"[-200:]).info.run_id
        logged = set()
    at = int(document.created_at.timestamp() * 1000)
    points = [
        Metric(name, value, at, trial["trial"])
        for trial in record["trials"]
        for name, value in zip(record["metrics"], trial["values"] or [], strict=False)
        if (trial["trial"], name) not in logged
    ]
    client.log_batch(run, metrics=points[:1000], params=[Param(*row) for row in _params(record)])
    client.log_artifacts(run, str(folder), "sweep")
    client.set_terminated(run)
    return str(run)


def _params(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What the sweep was, and the hyperparameters that won."""
    confirmed, winner = record["confirmed"], record["best"]
    if confirmed:
        winner = confirmed["trial"]
    rows = {name: record[name] for name in ("sampler", "pruner", "budget", "stopped")} | {"winner": winner}
    rows |= next((trial["params"] for trial in record["trials"] if trial["trial"] == winner), {})
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in rows.items()]
