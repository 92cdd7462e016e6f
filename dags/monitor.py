"""`monitor__<family>`: watches the source and the live traffic, and asks for a retrain. One DAG per family spec."""

from __future__ import annotations

from airflow.sdk import DAG, task

from include.spec import FamilySpec, load_families
from plugins.windtunnel.defaults import dag_arguments, default_profile
from plugins.windtunnel.operators.step import step_class, step_defaults
from plugins.windtunnel.params import profile_param, source_param
from plugins.windtunnel.schedule import cron, retrain_asset
from plugins.windtunnel.sensors.volume import DataVolumeSensor
from plugins.windtunnel.tasks import monitor as tasks

DOC = """
### Monitor {family}

Two monitors vote: new rows at the source (a deferrable sensor), and drift of live questions and scores against the
champion's reference (Evidently). If either asks, the governor decides: cooldown, no request twice for the same cause.
A retrain request is an asset event that starts `train__{name}`; `windtunnel ledger {name}` shows why it did or did not.
"""


def monitor_dag(spec: FamilySpec) -> DAG:
    """The monitoring DAG of one family."""
    family, heavy = spec.family, step_class()
    with DAG(
        **dag_arguments(spec, "monitor", f"Drift and data volume: {spec.title}"),
        schedule=cron(spec.schedule.monitor),
        catchup=False,
        params={"profile": profile_param(spec, default_profile()), "source": source_param(spec)},
        doc_md=DOC.format(family=spec.title, name=family),
    ) as dag:
        volume = DataVolumeSensor(
            task_id="data_volume",
            family=family,
            execution_timeout=None,  # the sensor's own waiting time ends it
            doc_md="Waits, deferred, until enough new rows lie at the source; skipped when they do not come.",
        )
        compared = task(tasks.drift_inputs, doc_md="What the drift check compares.")(family)
        drift = heavy(
            task_id="drift",
            family=family,
            step="drift",
            inputs=compared,
            doc_md="Evidently: live questions and scores against the champion's reference.",
            **step_defaults(spec.resources.timeout_minutes, "data"),
        )
        vote = task(tasks.drift_vote, doc_md="Succeeds when there is drift; skipped when there is none.")(drift.output)
        decision = task(
            tasks.govern,
            task_id="governor",
            trigger_rule="one_success",
            doc_md="Fires or declines, with reasons.",
        )(family, [volume.output, vote])
        task(
            tasks.request_retrain,
            task_id="request",
            outlets=[retrain_asset(family)],
            doc_md="Emits the retrain request, which starts the training DAG.",
        )(family, decision)
    return dag


for _spec in load_families(default_profile()):
    globals()[f"monitor__{_spec.family}"] = monitor_dag(_spec)
