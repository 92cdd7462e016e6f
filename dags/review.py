"""`review__<family>`: people look at the pairs that the gate leaves open. One DAG per family with such pairs."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from include.spec import AnyFamilySpec, load_pair_families
from include.spec.pairs import QaSpec
from plugins.windtunnel.defaults import dag_arguments, default_profile
from plugins.windtunnel.operators.review import ReviewOperator
from plugins.windtunnel.schedule import review_asset
from plugins.windtunnel.tasks import review as tasks

DOC = """
### Review {family}

Question and answer pairs that the gate is not sure of wait in quarantine as `needs_review`. This DAG asks people about
at most {budget} of them at a time: those that the classifiers are least sure of, and no two alike.

* **Runs** whenever deliveries were validated, or by hand; skipped when no pair waits.
* **Answer** under *Required actions*, one form per reviewer. {reviewers} different people are needed: who answers two
  forms counts once. After {hours:g} hours a form closes by itself, and pairs with too few answers stay in quarantine.
* **Released** is what at least {agreement:.0%} of the answers call right: a delivery of its own, which the next
  training run checks like any other. The ledger has the outcome and the agreement: `windtunnel ledger {name}`.
"""


def review_dag(spec: AnyFamilySpec, qa: QaSpec) -> DAG:
    """The review DAG of one family."""
    family, review, profile = spec.family, qa.review, default_profile()
    doc = DOC.format(family=spec.title, name=family, **review.model_dump())
    with DAG(
        **dag_arguments(spec, "review", f"People settle uncertain pairs: {spec.title}"),
        schedule=[review_asset(family)],
        catchup=False,
        doc_md=doc,
        render_template_as_native_obj=True,
    ) as dag:
        batch = task(tasks.choose_pairs, task_id="choose", doc_md="Which pairs people are asked about.")(
            family, profile
        )
        seats = [
            ReviewOperator(
                task_id=f"reviewer_{number}",
                subject=f"{spec.title}: are these answers right? (reviewer {number} of {review.reviewers})",
                batch=batch,
                response_timeout=timedelta(hours=review.hours),
                doc_md="One person's answers. No answer in time leaves the pairs in quarantine.",
            )
            for number in range(1, review.reviewers + 1)
        ]
        task(
            tasks.settle_pairs,
            task_id="settle",
            trigger_rule="none_failed_min_one_success",
            doc_md="Counts the answers, and releases what reviewers agree to be right.",
        )(family, profile, batch, [seat.output for seat in seats])
    return dag


for _spec, _qa in load_pair_families(default_profile()):
    globals()[f"review__{_spec.family}"] = review_dag(_spec, _qa)
