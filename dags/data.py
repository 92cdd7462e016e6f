"""`data__<family>`: from deliveries at the source to a dataset version, for families that are only data yet."""

from __future__ import annotations

from airflow.sdk import DAG, task

from include.spec import DataFamilySpec, load_data_families
from plugins.windtunnel.data_steps import data_steps
from plugins.windtunnel.defaults import dag_arguments, default_profile
from plugins.windtunnel.params import data_params
from plugins.windtunnel.schedule import cron
from plugins.windtunnel.tasks.data import plan_data

DOC = """
### Data of {family}

Takes everything new at the source, gates it, and makes a dataset version of the clean rows. There is no model yet.

* **Runs** weekly (`{cron}` UTC) once it is switched on, by hand (the form explains each field), and as a backfill over
  past intervals. It is made paused: tell it first where the data is (sources: {source}).
* **Safe to repeat**: the same data, parameters and code give the same dataset version.
* **Read first when it failed**: the last lines of the failed task's log say what was wrong, where, and what to do;
  `windtunnel quarantine list {name}` shows the rows that did not pass.

Owner: {owner}. {description}
"""


def data_dag(spec: DataFamilySpec) -> DAG:
    """The data DAG of one family."""
    doc = DOC.format(
        family=spec.title,
        name=spec.family,
        cron=spec.schedule.ingest,
        source=", ".join(spec.data.sources),
        owner=spec.owner.team,
        description=spec.description,
    )
    with DAG(
        **dag_arguments(spec, "data", f"Source to dataset version: {spec.title}"),
        schedule=cron(spec.schedule.ingest),
        catchup=spec.schedule.catchup,
        is_paused_upon_creation=True,
        params=data_params(spec, default_profile()),
        doc_md=doc,
        render_template_as_native_obj=True,
    ) as dag:
        plan = task(plan_data, task_id="plan", doc_md="Fixes parameters, source and interval.")(spec.family)
        data_steps(spec, plan)
    return dag


for _spec in load_data_families(default_profile()):
    globals()[f"data__{_spec.family}"] = data_dag(_spec)
