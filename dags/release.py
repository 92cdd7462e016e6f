"""`release__<family>`: staged delivery of a registered candidate on live traffic. One DAG per family spec."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, chain, task

from include.spec import FamilySpec, load_families
from plugins.windtunnel.defaults import dag_arguments, default_profile
from plugins.windtunnel.operators.approval import ReleaseApprovalOperator
from plugins.windtunnel.operators.stage import StageOperator
from plugins.windtunnel.params import profile_param
from plugins.windtunnel.schedule import candidate_asset
from plugins.windtunnel.tasks import release as tasks

DOC = """
### Release {family}

Moves live traffic to a candidate in stages ({stages}), judged on errors, latency and labelled feedback against the
champion. Anything but PASS takes the traffic back at once; so does the failure of any task here.

* **Runs** when `train__{name}` announces a candidate, or by hand with a `model_version` that passed its gates.
* **A person** can hold, end or speed up a rollout: `windtunnel rollout pause|resume|abort|promote {name} --reason ...`.
* **State** is in the ledger: `windtunnel ledger {name}`. A task that is tried again continues where the ledger stands.
"""


def release_dag(spec: FamilySpec) -> DAG:
    """The release DAG of one family."""
    family = spec.family
    stages = [stage.name for stage in spec.release.stages]
    with DAG(
        **dag_arguments(spec, "release", f"Staged rollout on live traffic: {spec.title}"),
        schedule=[candidate_asset(family)],
        catchup=False,
        params={
            "model_version": Param(
                None,
                type=["null", "string"],
                pattern="^\\d+\\.\\d+\\.\\d+$",
                title="Model version",
                description="A registered version. Empty when an announced candidate starts the run.",
            ),
            "profile": profile_param(spec, default_profile()),
        },
        doc_md=DOC.format(family=spec.title, name=family, stages=" -> ".join(stages)),
    ) as dag:
        rollout = task(tasks.select, pool="release", doc_md="Which candidate; it must have passed its gates.")(family)
        steps = [
            StageOperator(
                task_id=name,
                family=family,
                stage=name,
                rollout=rollout,
                pool="release",
                execution_timeout=None,  # the stage's own time limit ends it
                doc_md=f"Stage {name}: moves traffic, waits for the verdict of live traffic, rolls back unless PASS.",
            )
            for name in stages
        ]
        if spec.release.approval:
            steps.insert(
                spec.release.first_live,
                ReleaseApprovalOperator(
                    task_id="approve",
                    family=family,
                    rollout=rollout,
                    subject=f"Let the candidate of {spec.title} answer live traffic?",
                    response_timeout=timedelta(hours=spec.release.approval_hours),
                    doc_md="A person decides on the gates' verdicts. No answer in time is a no.",
                ),
            )
        promoted = task(tasks.promote, pool="release", doc_md="The candidate becomes the champion.")(family, rollout)
        rolled_back = task(
            tasks.roll_back,
            task_id="rollback",
            pool="release",
            trigger_rule="one_failed",
            doc_md="Second net: takes the traffic back when any task failed.",
        )(family, rollout)
        chain(rollout, *steps, promoted)
        [*steps, promoted] >> rolled_back
    return dag


for _spec in load_families(default_profile()):
    globals()[f"release__{_spec.family}"] = release_dag(_spec)
