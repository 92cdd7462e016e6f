"""`drill__<family>`: releases a bad model on purpose, to see that it comes down. One DAG per family spec."""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

from include.spec import FamilySpec, load_families
from plugins.windtunnel.defaults import dag_arguments, default_profile
from plugins.windtunnel.operators.step import step_class, step_defaults
from plugins.windtunnel.params import profile_param
from plugins.windtunnel.schedule import cron
from plugins.windtunnel.tasks import drill as tasks

DOC = """
### Drill {family}

Spoils a copy of the champion and releases it, under traffic, through the real release engine and a real gateway: to a
target of its own, with its own ledger, store and gateway process. Production serves on and is not touched.

* **Runs** {schedule}, or by hand. The form chooses what is wrong with the model; by itself the faults take turns.
* **Red** means that the family's guardrails let a bad model through: look at `release.guardrails` in its spec.
* **Result**: where it was stopped, how long that took, and how long until the champion was alone again; in
  `windtunnel status` and `windtunnel ledger {name}`. `windtunnel drill {name}` does the same from the command line.
"""
FAULTS = {
    tasks.IN_TURN: "the one whose turn it is",
    "slow": "far beyond the allowed latency",
    "wrong": "answers to other questions",
    "skewed": "the same answer to many questions",
    "failing": "errors on some questions",
    "leaking": "keeps memory of every request",
    "crashing": "takes its process along when it loads",
    "killing": "takes its process along on some questions",
}


def drill_dag(spec: FamilySpec) -> DAG:
    """The drill DAG of one family."""
    family, heavy, schedule = spec.family, step_class(), spec.release.drill.schedule
    with DAG(
        **dag_arguments(spec, "drill", f"A bad model must come down: {spec.title}"),
        schedule=cron(schedule) if schedule else None,
        catchup=False,
        params={
            "fault": Param(
                tasks.IN_TURN,
                type="string",
                enum=list(FAULTS),
                values_display={name: f"{name}: {text}" for name, text in FAULTS.items()},
                title="Fault",
                description="What is wrong with the model.",
            ),
            "live": Param(
                False,
                type="boolean",
                title="Shows only among users",
                description="The fault sleeps until the model has its first traffic: then it must be taken back.",
            ),
            "profile": profile_param(spec, default_profile()),
        },
        doc_md=DOC.format(
            family=spec.title, name=family, schedule=f"`{schedule}` UTC" if schedule else "never by itself"
        ),
        render_template_as_native_obj=True,
    ) as dag:
        plan = task(tasks.plan_drill, task_id="plan", doc_md="Which bad model is released.")(family)
        drill = heavy(
            task_id="drill",
            family=family,
            step="drill",
            inputs=plan,
            doc_md="Releases it to a target of its own, under traffic, and measures what happens.",
            **step_defaults(spec.resources.timeout_minutes, "release"),
        )
        task(tasks.keep_drill, task_id="record", doc_md="Ledger; red where the bad model was not stopped.")(
            family, drill.output
        )
    return dag


for _spec in load_families(default_profile()):
    globals()[f"drill__{_spec.family}"] = drill_dag(_spec)
