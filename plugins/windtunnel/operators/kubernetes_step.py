"""Runs a step in a Kubernetes pod: the resources of the family's spec, deferred while it runs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from include.failures import pod_status
from include.failures.classify import Evidence
from include.pods.local import pod_name
from include.spec.resources import ResourcesSpec
from include.steps.document import RunDocument
from plugins.windtunnel.operators.step import StepMixin
from plugins.windtunnel.runs import run_any_spec

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Secret in the pod's namespace with the WINDTUNNEL_*, MLFLOW_* and AWS_* variables; the pod refers to it by name.
ENV_SECRET = "windtunnel-env"
_TAIL_LINES = 500
_NOT_ENDED = frozenset({"Pending", "Running", "Unknown"})


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
        document = self.write_document(context)
        witnessed = None if event["status"] == "success" else self._witness(event)  # before the pod is cleaned up
        try:
            super().trigger_reentry(context, event)
        except AirflowException as error:
            attempt, evidence, usage = witnessed or self._witness(event)
            if ((evidence.pod or {}).get("status") or {}).get("phase") in _NOT_ENDED:
                with contextlib.suppress(ApiException):  # else it might start after all, beside the next try
                    self.client.delete_namespaced_pod(event["name"], event["namespace"])
            raise self.failure(self.settle(document, attempt, evidence, usage)) from error
        return self._result(document)

    def _result(self, document: RunDocument) -> dict[str, Any]:
        result = self.read_result(document)
        if result is None:
            pod = self.pod.metadata.uid if self.pod else document.fingerprint
            raise self.failure(self.settle(document, str(pod), Evidence(exit_code=0)))
        return result

    def _witness(self, event: dict[str, Any]) -> tuple[str, Evidence, dict[str, Any] | None]:
        """The attempt's name, what is known about its end, and what it used.

        Read as the API gives it: the client's classes refuse what they do not know, and no cluster has their version.
        """
        name, namespace, tail = event["name"], event["namespace"], list[str]()
        pod: dict[str, Any] = {}  # it may be gone by now
        with contextlib.suppress(ApiException):
            pod = json.loads(self.client.read_namespaced_pod(name, namespace, _preload_content=False).data)
        with contextlib.suppress(ApiException):
            log = self.client.read_namespaced_pod_log(
                name,
                namespace,
                container=self.base_container_name,
                tail_lines=_TAIL_LINES,
                _preload_content=False,
            )
            tail = log.data.decode("utf-8", "replace").splitlines()
        events: list[dict[str, Any]] = []
        with contextlib.suppress(ApiException):
            found = self.client.list_namespaced_event(
                namespace, field_selector=f"involvedObject.name={name}", _preload_content=False
            )
            events = json.loads(found.data)["items"]
        evidence = Evidence(
            exit_code=pod_status.exit_code(pod, self.base_container_name),
            log_tail=tail,
            deleted=not pod,
            timed_out=event["status"] == "timeout" and (pod.get("status") or {}).get("phase") != "Pending",
            pod=pod,
            events=events,
            container=self.base_container_name,
        )
        seconds = pod_status.seconds(pod, self.base_container_name)
        attempt = (pod.get("metadata") or {}).get("uid") or name
        return str(attempt), evidence, None if seconds is None else {"seconds": seconds}

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
