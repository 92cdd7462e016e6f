"""The three data steps, which `train__<family>` and `data__<family>` share."""

from __future__ import annotations

from airflow.sdk import BaseOperator, XComArg

from include.spec import BaseFamilySpec
from plugins.windtunnel.operators.step import step_class, step_defaults
from plugins.windtunnel.schedule import review_asset


def data_steps(spec: BaseFamilySpec, plan: XComArg) -> BaseOperator:
    """Adds ingest -> validate -> publish, after `plan`, to the DAG that is being made; returns `publish`."""
    heavy, arguments = step_class(), step_defaults(spec.resources.timeout_minutes, "data")
    ingest = heavy(
        task_id="ingest",
        family=spec.family,
        step="ingest",
        inputs={key: plan[key] for key in ("run", "source", "since", "until")},
        doc_md="Reads what is new at the source into raw batches, once per delivery.",
        **arguments,
    )
    validate = heavy(
        task_id="validate",
        family=spec.family,
        step="validate",
        inputs={"deliveries": ingest.output["deliveries"]},
        outlets=[review_asset(spec.family)] if spec.data.qa else [],
        doc_md="Great Expectations gate. Rows that fail go to quarantine with their reasons.",
        **arguments,
    )
    return heavy(
        task_id="publish",
        family=spec.family,
        step="publish",
        inputs={"checked": validate.output["checked"], "source": plan["source"]},
        doc_md="Clean rows become a dataset version with manifest and digests.",
        **arguments,
    )
