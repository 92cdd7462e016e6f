"""Runs a step in a Kubernetes pod: the resources of the family's spec, deferred while it runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

from include.pods.local import pod_name
from include.spec.models import ResourcesSpec
from include.steps.document import RunDocument
from plugins.windtunnel.operators.step import StepMixin
from plugins.windtunnel.runs import run_any_spec

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Secret in the pod's namespace with the WINDTUNNEL_*, MLFLOW_* and AWS_* variables; the pod refers to it by name.
ENV_SECRET = "windtunnel-env"


class KubernetesStepOperator(StepMixin, KubernetesPodOperator):
    """Runs a step in a pod of its own; the same arguments and result as `LocalStepOperator`."""

    template_fields: Sequence[str] = (*KubernetesPodOperator.template_fields, "inputs")

    def __init__(self, *, family: str, step: str, inputs: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(
            name=f"{family}-{step}".replace("_", "-"),
            image="windtunnel-trainer:latest",  # the spec's image replaces it when the run's profile is known
            cmds=["python"],
            deferrable=True,
            do_xcom_push=False,  # the result travels through the object store
            reattach_on_restart=True,
            on_finish_action="delete_succeeded_pod",
            termination_grace_period=60,
            **kwargs,
        )
        self.family = family
        self.step = step
        self.inputs = inputs

    def execute(self, context: Context) -> Any:
        document = self.write_document(context)
        done = self.read_result(document)
        if done is not None:
            self.log.info("%s: the same work was done before; using that result", self.step)
            return done
        self._apply(run_any_spec(context, self.family).resources, document)
        super().execute(context)
        return self._result(document)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        super().trigger_reentry(context, event)
        return self._result(self.write_document(context))

    def _result(self, document: RunDocument) -> dict[str, Any]:
        result = self.read_result(document)
        if result is None:
            raise self.failure(document, None)
        return result

    def _apply(self, resources: ResourcesSpec, document: RunDocument) -> None:
        self.image = resources.image
        self.namespace = resources.namespace
        self.service_account_name = resources.service_account
        self.node_selector = dict(resources.node_selector)
        self.priority_class_name = resources.priority_class
        self.arguments = self.command(document)
        self.name = pod_name(self.family, self.step, document.fingerprint[:12])
        limits = {"cpu": resources.cpu, "memory": resources.memory, "ephemeral-storage": resources.ephemeral_storage}
        if resources.gpu:
            limits["nvidia.com/gpu"] = str(resources.gpu)
        if resources.gpu_kind:
            self.node_selector["nvidia.com/gpu.product"] = resources.gpu_kind
        self.container_resources = k8s.V1ResourceRequirements(requests=limits, limits=limits)
        self.env_from = [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=ENV_SECRET))]
        self.security_context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        self.container_security_context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        self.labels = {
            "app.kubernetes.io/part-of": "windtunnel",
            "windtunnel/family": self.family,
            "windtunnel/step": self.step,
            "windtunnel/run": re.sub(r"[^A-Za-z0-9_.-]", "_", document.run)[-63:].strip("_.-"),
        }
