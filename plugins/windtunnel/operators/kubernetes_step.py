"""Runs a step in a Kubernetes pod: the resources of the family's spec, deferred while it runs.

A pod has the name of its task's work and of the number of bad ends before it. So the API itself sees to it that there
is one: whoever is asked to start what runs already finds it and waits for it, whichever Airflow process died meanwhile.

Of Airflow's Kubernetes provider, the connection is used and not its operator: that one reads the whole log again at the
end, gives up when the API server is away for seconds, and costs every reading of a DAG file a second of imports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException
from pydantic import ValidationError

from include.errors import UserError
from include.failures import pod_status
from include.failures.classify import Evidence, most_telling
from include.failures.policy import Action
from include.failures.records import FailureRecord, read_failures
from include.pods.cluster import KEEP_HOURS, Cluster, NoRoom
from include.pods.contract import PodError
from include.pods.gang import as_node, node_name
from include.pods.local import pod_name
from include.pods.manifest import CONTAINER, Manifest, PodRequest, over, pod_manifest, read_template
from include.pods.watch import PodEnd
from include.settings import Settings
from include.spec.models import FamilySpec
from include.spec.quantities import cores
from include.steps.document import RunDocument, document_key
from include.store.objects import ObjectNotFound, open_store
from plugins.windtunnel.operators.failed import StepFailed
from plugins.windtunnel.operators.step import StepMixin
from plugins.windtunnel.runs import run_any_spec, run_name

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import CoreV1Api

_NO_ROOM_PAUSE = timedelta(minutes=5)
_ENDING_PAUSE = timedelta(seconds=10)
_BACKSTOP = timedelta(minutes=15)  # the trigger's own limit comes first and says more
_MOST_LOOKS = 20


class KubernetesStepOperator(StepMixin, BaseOperator):
    """Runs a step in a pod of its own; the same arguments and result as `LocalStepOperator`.

    Args:
        family: Name of the family.
        step: One of `PACKAGES`.
        inputs: The step's inputs; may hold XCom references.
        kubernetes_conn_id: Airflow connection to the cluster; where there is none of this name, the process's own
            Kubernetes configuration is taken.
    """

    template_fields: Sequence[str] = ("inputs",)
    ui_color = "#e8eef8"

    def __init__(
        self,
        *,
        family: str,
        step: str,
        inputs: dict[str, Any],
        kubernetes_conn_id: str = "kubernetes_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.family = family
        self.step = step
        self.inputs = inputs
        self.kubernetes_conn_id = kubernetes_conn_id
        self._pods: list[dict[str, Any]] = []

    def execute(self, context: Context) -> Any:
        from plugins.windtunnel.operators.gang_trigger import GangTrigger
        from plugins.windtunnel.operators.pod_trigger import StepPodTrigger

        document = self.write_document(context)
        done = self.read_result(document)
        if done is not None:
            self.log.info("%s: the same work was done before; using that result", self.step)
            return done
        resources = run_any_spec(context, self.family).resources
        pods = self._find_or_start(context, document)
        names, left = [pod["metadata"]["name"] for pod in pods], self._time_left(context)
        arguments: dict[str, Any] = {
            "pod_namespace": pods[0]["metadata"]["namespace"],
            "kubernetes_conn_id": self.kubernetes_conn_id,
            "pending_seconds": resources.pending_minutes * 60,
            "deadline": None if left is None else (datetime.now(UTC) + left).timestamp(),
            "grace_seconds": resources.grace_seconds,
        }
        alone = len(names) == 1
        self.defer(
            trigger=(StepPodTrigger if alone else GangTrigger)(names, **arguments),
            method_name="trigger_reentry",
            timeout=None if left is None else left + _BACKSTOP,
        )

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        document, cluster = self._waited_for(context), self._cluster(event["namespace"])
        names = [node_name(event["name"], node) for node in range(document.nodes)]
        if event["status"] == "error":
            for name in names:
                cluster.delete(name)
            raise AirflowFailException(f"{self.step} failed: {event['message']}")
        result = self.read_result(document)
        if event["status"] == PodEnd.SUCCEEDED.value and result is not None:
            for name in names:
                cluster.delete(name)
            return result
        ends = {end["name"]: end for end in event.get("ends", [event])}
        raise self.failure(self._settle(document, cluster, [ends.get(name) or _unseen(name) for name in names]))

    def _waited_for(self, context: Context) -> RunDocument:
        """What the pod does: the code may be another by now, and what it would ask for is not what is awaited."""
        slot = max(0, -1 if context["ti"].map_index is None else context["ti"].map_index)
        store = open_store(Settings.from_env().store_url)
        try:
            return RunDocument.model_validate_json(store.get(document_key(run_name(context), self.step, slot)))
        except (ObjectNotFound, ValidationError):
            return self.write_document(context)

    def on_kill(self) -> None:
        """Of the worker, before the task is deferred; afterwards it is the trigger's."""
        for manifest in self._pods:
            self.log.warning("the task was ended: deleting pod %s", manifest["metadata"]["name"])
            self._cluster(manifest["metadata"]["namespace"]).delete(manifest["metadata"]["name"])

    def manifest(self, context: Context, document: RunDocument, number: int = 0, node: int = 0) -> Manifest:
        """The pod of this task, after `number` bad ends, as the site and the family want it.

        Args:
            node: Which of the pods that train together.
        """
        settings, resources = Settings.from_env(), run_any_spec(context, self.family).resources
        ti = context["ti"]
        work = pod_name(self.dag_id, ti.run_id, self.task_id, ti.map_index, document.fingerprint[:12])
        labels = {
            "windtunnel/family": self.family,
            "windtunnel/step": self.step,
            "windtunnel/run": document.run,
            **_task_labels(context),
        }
        env = {"OMP_NUM_THREADS": str(_threads(document))}
        request = PodRequest(f"{work}-{number}", self.command(document), labels, env)
        manifest = pod_manifest(resources, request, read_template(settings.pod_template), settings.spot_nodes)
        manifest = over(manifest, {"metadata": {"annotations": {KEEP_HOURS: f"{resources.keep_hours:g}"}}})
        return as_node(manifest, request.name, node, document.nodes)

    def _find_or_start(self, context: Context, document: RunDocument) -> list[dict[str, Any]]:
        """The pods that do the task's work, started unless they were there: one, or all that train together.

        Raises:
            AirflowFailException: A person must change something first.
            AirflowRescheduleException: An earlier pod of the task is still ending.
        """
        store = open_store(Settings.from_env().store_url)
        for _ in range(_MOST_LOOKS):
            failures = read_failures(store, document.output)
            number = sum(failure.run == document.run for failure in failures)
            try:
                manifests = [self.manifest(context, document, number, node) for node in range(document.nodes)]
                self._pods, cluster = manifests, self._cluster(manifests[0]["metadata"]["namespace"])
                found = {each["metadata"]["name"]: cluster.get(each["metadata"]["name"]) for each in manifests}
                there = [pod for pod in found.values() if pod is not None]
                lost = any(pod_status.ended(pod, CONTAINER) is False for pod in there)
                ending = any(pod_status.deleted(pod) and pod_status.ended(pod, CONTAINER) is None for pod in there)
                if len(there) < len(found) and not lost and not ending:
                    if not there:
                        store.delete(document.error_key)
                    self._create(cluster, [each for each in manifests if not found[each["metadata"]["name"]]], document)
                    continue
            except UserError as error:
                raise AirflowFailException(str(error)) from error
            if lost:  # and Airflow's worker did not live to see it
                events = [{**_unseen(name), "pod": pod} for name, pod in found.items()]
                record = self._settle(document, cluster, events)
                if record.action is Action.FAIL:
                    raise self.failure(record)
                document = self.write_document(context)
            elif ending:  # its process may still be saving itself
                self.log.info("pod %s is still ending; the step waits for that", next(iter(found)))
                raise AirflowRescheduleException(datetime.now(UTC) + _ENDING_PAUSE)
            else:
                for pod in there:
                    self.log.info("pod %s (uid %s) does the work", pod["metadata"]["name"], pod["metadata"]["uid"])
                return there
        raise StepFailed(f"{self.step}: pods of this task come and go faster than they can be looked at")

    def _create(self, cluster: Cluster, manifests: list[Manifest], document: RunDocument) -> None:
        """Starts the pods, or none of them where one is refused."""
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
        from airflow.settings import pod_mutation_hook

        for manifest in manifests:
            pod = PodGenerator.deserialize_model_dict(manifest)
            pod_mutation_hook(pod)
            try:
                made = cluster.create(self.client.api_client.sanitize_for_serialization(pod))
            except (NoRoom, UserError) as error:
                for other in manifests:
                    cluster.delete(other["metadata"]["name"])
                if isinstance(error, UserError):
                    raise
                if document.nodes > 1:
                    raise self.failure(self._no_room(document, manifest, error)) from error
                raise StepFailed(f"{self.step}: {error}", _NO_ROOM_PAUSE) from error
            if made:
                self.log.info("started pod %s", manifest["metadata"]["name"])
        if not document.adjustment.is_none:
            self.log.info("differs from what was asked for: %s", document.adjustment)
        with contextlib.suppress(PodError):  # housekeeping
            cluster.tidy(datetime.now(UTC))

    def _no_room(self, document: RunDocument, manifest: Manifest, error: NoRoom) -> FailureRecord:
        gang = manifest["metadata"]["labels"]["windtunnel/gang"]
        return self.settle(document, gang, Evidence(log_tail=[str(error)], incomplete=True))

    def _settle(self, document: RunDocument, cluster: Cluster, events: list[dict[str, Any]]) -> FailureRecord:
        """Finds out how the pods ended, records it, and sees to it that none runs on beside the next try."""
        evidence = [self._evidence(cluster, event) for event in events]
        telling = most_telling(evidence)
        if len(events) > 1 and any(event["status"] == PodEnd.PENDING.value for event in events):
            telling = replace(telling, incomplete=True)
        seconds = [pod_status.seconds(each.pod or {}, CONTAINER) for each in evidence]
        used = sum(each for each in seconds if each is not None)
        # A gang's try has one name, whoever of its pods tells how it ended.
        alone = str((telling.pod or {}).get("metadata", {}).get("uid") or events[0]["name"])
        attempt = alone if len(events) == 1 else events[0]["name"]
        return self.settle(document, attempt, telling, None if seconds == [None] * len(seconds) else {"seconds": used})

    def _evidence(self, cluster: Cluster, event: dict[str, Any]) -> Evidence:
        name, status, last_seen = event["name"], event["status"], event["pod"] or {}
        now = cluster.get(name)
        pod = now or last_seen
        if now is not None and pod_status.ended(now, CONTAINER) is None:
            cluster.delete(name)
        return Evidence(
            exit_code=pod_status.exit_code(pod, CONTAINER),
            log_tail=(cluster.tail(name) if now else None) or event["tail"],
            lost=now is not None and status == PodEnd.GONE.value,
            deleted=now is None and pod_status.ended(pod, CONTAINER) is None,
            timed_out=status == PodEnd.TIMEOUT.value,
            pod=pod,
            events=cluster.events(name),
            container=CONTAINER,
        )

    @cached_property
    def client(self) -> CoreV1Api:
        """Of the connection's cluster."""
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

        return KubernetesHook(conn_id=self.kubernetes_conn_id).core_v1_client

    def _cluster(self, namespace: str) -> Cluster:
        return Cluster(self.client, namespace)

    def _time_left(self, context: Context) -> timedelta | None:
        """Until the task's time limit, which runs from the start of this try."""
        if self.execution_timeout is None:
            return None
        started = context["ti"].start_date or datetime.now(UTC)
        return max(timedelta(), started + self.execution_timeout - datetime.now(UTC))


def _task_labels(context: Context) -> dict[str, str]:
    """The labels by which Airflow's people look for a task's pods; those of the provider's operator."""
    ti = context["ti"]
    labels = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "try_number": str(ti.try_number)}
    mapped = ti.map_index is not None and ti.map_index >= 0
    return {**labels, "map_index": str(ti.map_index)} if mapped else labels


def _threads(document: RunDocument) -> int:
    """What each process of the pod may compute with: a container sees all cores of its node, whatever its limit."""
    spec, processes = document.spec, 1
    if isinstance(spec, FamilySpec):
        processes = {"fit": spec.trainer.devices, "sweep": spec.sweep.workers}.get(document.step, 1)
    return max(1, int(cores(spec.resources.cpu)) // processes)


def _unseen(name: str) -> dict[str, Any]:
    """In place of what a trigger tells of a pod."""
    return {"status": "", "name": name, "pod": None, "tail": []}
