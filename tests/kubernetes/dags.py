"""A DAG for a real Airflow, whose steps do what the run's `conf` says. It lies here as text; tests copy it."""

import os
import time
from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from include.pods.cluster import Cluster
from include.spec import RunParams, load_family
from include.spec.models import FamilySpec
from plugins.windtunnel.operators import kubernetes_step, step
from plugins.windtunnel.operators.kubernetes_step import KubernetesStepOperator

SMALL = {"cpu": "100m", "memory": "256Mi", "ephemeral_storage": "100Mi", "grace_seconds": 5}


def small(context: object, family: str) -> FamilySpec:
    values = load_family(family).model_dump(mode="json")
    values["resources"] = SMALL
    values["retry"] = {"pause_seconds": 0}
    return FamilySpec.model_validate(values)


step.PACKAGES["fit"] = "scripted"
step.SPEC_PARTS["fit"] = ("trainer",)
step.run_params = lambda context: RunParams()  # the run's own parameter is none of a family's
step.run_any_spec = kubernetes_step.run_any_spec = small


def linger(self: Cluster, now: datetime) -> int:
    """Right after a pod was started: leaves time to kill the worker, where a test asks for it."""
    if os.path.exists(os.environ["LINGER"]):
        time.sleep(120)
    return 0


kubernetes_step.Cluster.tidy = linger

with DAG(
    "steps",
    schedule=None,
    params={"seconds": Param(0)},
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    render_template_as_native_obj=True,
) as dag:
    KubernetesStepOperator(
        task_id="fit",
        family="compliance_qa",
        step="fit",
        inputs={"how": "works", "id": "{{ run_id }}", "seconds": "{{ params.seconds }}"},
    )
