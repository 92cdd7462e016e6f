"""Runs a step in a Kubernetes pod: the resources of the family's spec, deferred while it runs.

A pod has the name of its task's work and of the number of bad ends before it. So the API itself sees to it that there
is one: whoever is asked to start what runs already finds it and waits for it, whichever Airflow process died meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException
from airflow.settings import pod_mutation_hook

from include.errors import UserError
from include.failures import pod_status
from include.failures.classify import Evidence
from include.failures.policy import Action
from include.failures.records import FailureRecord, read_failures
from include.pods.cluster import KEEP_HOURS, Cluster, NoRoom
from include.pods.contract import PodError
from include.pods.local import pod_name
from include.pods.manifest import CONTAINER, Manifest, PodRequest, over, pod_manifest, read_template
from include.pods.watch import PodEnd
from include.settings import Settings
from include.steps.document import RunDocument
from include.store.objects import open_store
from plugins.windtunnel.operators.failed import StepFailed
from plugins.windtunnel.operators.pod_trigger import StepPodTrigger
from plugins.windtunnel.operators.step import StepMixin
from plugins.windtunnel.runs import run_any_spec

if TYPE_CHECKING:
    from airflow.sdk import Context

_NO_ROOM_PAUSE = timedelta(minutes=5)
_ENDING_PAUSE = timedelta(seconds=10)
_BACKSTOP = timedelta(minutes=15)  # the trigger's own limit comes first and says more
_MOST_LOOKS = 20


class KubernetesStepOperator(StepMixin, KubernetesPodOperator):
    """Runs a step in a pod of its own; the same arguments and result as `LocalStepOperator`.

    The cluster is that of the connection `kubernetes_default`; without one, of the process's own Kubernetes config.
    """

    template_fields: Sequence[str] = (*KubernetesPodOperator.template_fields, "inputs")

    def __init__(self, *, family: str, step: str, inputs: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(deferrable=True, do_xcom_push=False, **kwargs)
        self.family = family
        self.step = step
        self.inputs = inputs

    def execute(self, context: Context) -> Any:
        document = self.write_document(context)
        done = self.read_result(document)
        if done is not None:
            self.log.info("%s: the same work was done before; using that result", self.step)
            return done
        resources = run_any_spec(context, self.family).resources
        pod = self._find_or_start(context, document)
        self.pod = PodGenerator.deserialize_model_dict({"metadata": pod["metadata"]})  # for `on_kill`
        left = self._time_left(context)
        self.defer(
            trigger=StepPodTrigger(
                pod["metadata"]["name"],
                pod["metadata"]["namespace"],
                self.kubernetes_conn_id,
                pending_seconds=resources.pending_minutes * 60,
                deadline=None if left is None else (datetime.now(UTC) + left).timestamp(),
                grace_seconds=resources.grace_seconds,
            ),
            method_name="trigger_reentry",
            timeout=None if left is None else left + _BACKSTOP,
        )

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        document, cluster, name = self.write_document(context), self._cluster(event["namespace"]), event["name"]
        if event["status"] == "error":
            cluster.delete(name)
            raise AirflowFailException(f"{self.step} failed: {event['message']}")
        result = self.read_result(document)
        if event["status"] == PodEnd.SUCCEEDED.value and result is not None:
            cluster.delete(name)
            return result
        raise self.failure(self._settle(document, cluster, event))

    def manifest(self, context: Context, document: RunDocument, number: int = 0) -> Manifest:
        """The pod of this task, after `number` bad ends, as the site and the family want it."""
        settings, resources = Settings.from_env(), run_any_spec(context, self.family).resources
        ti = context["ti"]
        work = pod_name(self.dag_id, ti.run_id, self.task_id, ti.map_index, document.fingerprint[:12])
        labels = {
            "windtunnel/family": self.family,
            "windtunnel/step": self.step,
            "windtunnel/run": document.run,
            **self._get_ti_pod_labels(context),
        }
        request = PodRequest(f"{work}-{number}", self.command(document), labels)
        manifest = pod_manifest(resources, request, read_template(settings.pod_template), settings.spot_nodes)
        return over(manifest, {"metadata": {"annotations": {KEEP_HOURS: f"{resources.keep_hours:g}"}}})

    def _find_or_start(self, context: Context, document: RunDocument) -> dict[str, Any]:
        """The pod that does the task's work, started unless it was there.

        Raises:
            AirflowFailException: A person must change something first.
            AirflowRescheduleException: An earlier pod of the task is still ending.
        """
        store = open_store(Settings.from_env().store_url)
        for _ in range(_MOST_LOOKS):
            failures = read_failures(store, document.output)
            number = sum(failure.run == document.run for failure in failures)
            try:
                manifest = self.manifest(context, document, number)
                cluster = self._cluster(manifest["metadata"]["namespace"])
                found = cluster.get(manifest["metadata"]["name"])
                if found is None:
                    store.delete(document.error_key)
                    self._create(cluster, manifest, document)
                    continue
            except UserError as error:
                raise AirflowFailException(str(error)) from error
            name = found["metadata"]["name"]
            if pod_status.ended(found, CONTAINER) is False:  # and Airflow's worker did not live to see it
                event = {"status": "", "name": name, "pod": found, "tail": []}
                record = self._settle(document, cluster, event)
                if record.action is Action.FAIL:
                    raise self.failure(record)
                document = self.write_document(context)
            elif pod_status.deleted(found):  # its process may still be saving itself
                self.log.info("pod %s is still ending; the step waits for that", name)
                raise AirflowRescheduleException(datetime.now(UTC) + _ENDING_PAUSE)
            else:
                self.log.info("pod %s (uid %s) does the work", name, found["metadata"]["uid"])
                return found
        raise StepFailed(f"{self.step}: pods of this task come and go faster than they can be looked at")

    def _create(self, cluster: Cluster, manifest: Manifest, document: RunDocument) -> None:
        pod = PodGenerator.deserialize_model_dict(manifest)
        pod_mutation_hook(pod)
        try:
            made = cluster.create(self.client.api_client.sanitize_for_serialization(pod))
        except NoRoom as error:
            raise StepFailed(f"{self.step}: {error}", _NO_ROOM_PAUSE) from error
        if made:
            self.log.info("started pod %s", manifest["metadata"]["name"])
        if not document.adjustment.is_none:
            self.log.info("differs from what was asked for: %s", document.adjustment)
        with contextlib.suppress(PodError):  # housekeeping
            cluster.tidy(datetime.now(UTC))

    def _settle(self, document: RunDocument, cluster: Cluster, event: dict[str, Any]) -> FailureRecord:
        """Finds out how the pod ended, records it, and sees to it that it does not run on beside the next try."""
        name, status, last_seen = event["name"], event["status"], event["pod"] or {}
        now = cluster.get(name)
        pod = now or last_seen
        if now is not None and pod_status.ended(now, CONTAINER) is None:
            cluster.delete(name)
        evidence = Evidence(
            exit_code=pod_status.exit_code(pod, CONTAINER),
            log_tail=(cluster.tail(name) if now else None) or event["tail"],
            lost=now is not None and status == PodEnd.GONE.value,
            deleted=now is None and pod_status.ended(pod, CONTAINER) is None,
            timed_out=status == PodEnd.TIMEOUT.value,
            pod=pod,
            events=cluster.events(name),
            container=CONTAINER,
        )
        seconds = pod_status.seconds(pod, CONTAINER)
        attempt = str((pod.get("metadata") or {}).get("uid") or name)
        return self.settle(document, attempt, evidence, None if seconds is None else {"seconds": seconds})

    def _cluster(self, namespace: str) -> Cluster:
        return Cluster(self.client, namespace)

    def _time_left(self, context: Context) -> timedelta | None:
        """Until the task's time limit, which runs from the start of this try."""
        if self.execution_timeout is None:
            return None
        started = context["ti"].start_date or datetime.now(UTC)
        return max(timedelta(), started + self.execution_timeout - datetime.now(UTC))
