"""`train__<family>`: from deliveries at the source to a registered candidate. One DAG per family spec."""

from __future__ import annotations

from airflow.sdk import DAG, task

from include.spec import FamilySpec, load_families
from plugins.windtunnel.data_steps import data_steps
from plugins.windtunnel.defaults import dag_arguments, default_profile
from plugins.windtunnel.operators.step import step_class, step_defaults
from plugins.windtunnel.params import train_params
from plugins.windtunnel.schedule import candidate_asset, retrain_asset, weekly_or_requested
from plugins.windtunnel.tasks import train as tasks

DOC = """
### Train {family}

Takes everything new at the source, gates it, makes a dataset version, searches hyperparameters, trains, evaluates the
candidate against the champion and the baselines, and registers it if it passes its gates.

* **Runs** weekly (`{cron}` UTC), when a monitor asks for a retrain, by hand (the form explains each field), and as a
  backfill over past intervals. A backfill builds and compares; it can never release.
* **Safe to repeat**: the same data, parameters and code give the same dataset version and the same model version.
* **A failed gate** goes back to the sweep with adjusted parameters, at most {attempts} rounds; then the
  candidate is archived.
* **Read first when it failed**: the last lines of the failed task's log say what was wrong, where, and what to do.

Owner: {owner}. {description}
"""


def train_dag(spec: FamilySpec) -> DAG:
    """The training DAG of one family."""
    family, heavy = spec.family, step_class()
    training = step_defaults(spec.resources.timeout_minutes, "training")
    doc = DOC.format(
        family=spec.title,
        cron=spec.schedule.train,
        attempts=spec.evaluation.max_attempts,
        owner=spec.owner.team,
        description=spec.description,
    )
    with DAG(
        **dag_arguments(spec, "train", f"Data to registered candidate: {spec.title}"),
        schedule=weekly_or_requested(spec),
        catchup=spec.schedule.catchup,
        params=train_params(spec, default_profile()),
        doc_md=doc,
        render_template_as_native_obj=True,
    ) as dag:
        plan = task(
            tasks.plan_run, task_id="plan", doc_md="Fixes parameters, interval and the champion to compare with."
        )(family)
        publish = data_steps(spec, plan)
        planned = task(tasks.plan_sweep, doc_md="One entry per sweep worker.")(family, plan, publish.output)
        sweep = heavy.partial(
            task_id="sweep",
            family=family,
            step="sweep",
            doc_md="Hyperparameter search: the workers share one Optuna study.",
            **training,
        ).expand(inputs=planned)
        chosen = task(tasks.choose, doc_md="The study's best trial, never worse than the spec's defaults.")(
            family, plan, publish.output, sweep.output
        )
        fit = heavy(
            task_id="fit",
            family=family,
            step="fit",
            inputs={
                key: chosen[key] for key in ("dataset_version", "dataset_digest", "seed", "hyperparameters", "origins")
            },
            doc_md="Final training with checkpoints; exports the model package.",
            **training,
        )
        evaluate = heavy(
            task_id="evaluate",
            family=family,
            step="evaluate",
            inputs={
                "dataset_version": publish.output["dataset_version"],
                "dataset_digest": publish.output["dataset_digest"],
                "candidate": fit.output["digest"],
                "champion": plan["champion"],
                "baselines": tasks.baselines(spec),
                "zero_shot": True,
                "cases": plan["cases"],
            },
            doc_md="Candidate, champion and baselines on the same test examples, in the serving runtime.",
            **training,
        )
        decision = task(tasks.gate, doc_md="PASS, FAIL or INCONCLUSIVE by the spec's gates; replayable.")(
            family, plan, publish.output, fit.output, evaluate.output
        )
        follow = task.branch(tasks.follow_verdict, doc_md="Register, go back to the sweep, or archive.")(decision)
        registered = task(tasks.register, doc_md="MLflow, semantic version, ledger; once.")(
            family, plan, publish.output, chosen, fit.output, evaluate.output, decision
        )
        announced = task(
            tasks.announce, outlets=[candidate_asset(family)], doc_md="Emits the event that starts the release."
        )(family, registered)
        retry = task(
            tasks.retry, outlets=[retrain_asset(family)], doc_md="Asks for the next round, with adjusted parameters."
        )(family, plan, decision)
        archived = task(
            tasks.archive, doc_md="Records why the candidate will not fly; a person may accept an open one."
        )(family, plan, publish.output, chosen, fit.output, evaluate.output, decision)
        follow >> [registered, retry, archived]
        (
            task.short_circuit(tasks.may_announce, doc_md="Stops here unless the candidate may be released.")(
                registered
            )
            >> announced
        )
    return dag


for _spec in load_families(default_profile()):
    globals()[f"train__{_spec.family}"] = train_dag(_spec)
