"""`steer__<family>`: a person pauses, resumes, promotes or aborts a rollout from the web UI. One per family spec."""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

from include.spec import FamilySpec, load_families
from plugins.windtunnel.defaults import dag_arguments, default_profile
from plugins.windtunnel.tasks import steer as tasks

DOC = """
### Steer the rollout of {family}

Trigger it while `release__{name}` runs; whoever may trigger this DAG may steer. The ledger keeps who, when and why.

* **pause** holds the traffic where it is. A bad candidate still comes down.
* **resume** ends a pause; the stage's time goes on where it stood.
* **promote** ends the wait for evidence in this stage, and is refused while a check fails. With *up to full traffic*
  the stages before the first with all traffic are waved on as well.
* **abort** takes the traffic back to the champion, now.

`windtunnel rollout ...` does the same from the command line; `windtunnel rollback` takes back what was promoted.
"""


def steer_dag(spec: FamilySpec) -> DAG:
    """The steering DAG of one family."""
    with DAG(
        **dag_arguments(spec, "steer", f"Pause, resume, promote or abort the rollout: {spec.title}"),
        schedule=None,
        is_paused_upon_creation=False,
        params={
            "action": Param(
                "pause",
                type="string",
                enum=["pause", "resume", "promote", "abort"],
                title="What to do",
                description="With the rollout that is under way; see this DAG's documentation.",
            ),
            "reason": Param(
                type="string", minLength=3, maxLength=500, title="Why", description="Kept in the ledger with your name."
            ),
            "full": Param(
                False, type="boolean", title="Up to full traffic", description="Of `promote`: all stages up to there."
            ),
        },
        doc_md=DOC.format(family=spec.title, name=spec.family),
    ) as dag:
        task(tasks.steer, doc_md="Does what the form asks, or says why it is refused.")(spec.family)
    return dag


for _spec in load_families(default_profile()):
    globals()[f"steer__{_spec.family}"] = steer_dag(_spec)
