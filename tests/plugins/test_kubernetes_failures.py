"""A Kubernetes pod that ended badly: what is read of it before it is cleaned up, and what the task raises."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.providers.cncf.kubernetes")

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException
from kubernetes.client.exceptions import ApiException

from include.failures.endings import Ending
from include.failures.records import FailureRecord, read_failures
from include.settings import Settings
from include.store.objects import open_store
from plugins.windtunnel.operators.failed import StepFailed
from plugins.windtunnel.operators.kubernetes_step import KubernetesStepOperator
from tests.failures.pods import LOW_MEMORY, NO_NODE, disrupted, event, pod, terminated
from tests.plugins.test_runs import DEFAULTS


class Cluster:
    """The calls of `CoreV1Api` that the operator makes, with the raw answers of the API."""

    def __init__(self, status: dict[str, Any] | None, log: str, events: list[dict[str, Any]]) -> None:
        self.deleted: list[str] = []
        self._pod, self._log, self._events = status, log, events

    def read_namespaced_pod(self, name: str, namespace: str, *, _preload_content: bool) -> Any:
        return self._raw(json.dumps(self._there()))

    def read_namespaced_pod_log(
        self, name: str, namespace: str, *, container: str, tail_lines: int, _preload_content: bool
    ) -> Any:
        assert container == "base" and tail_lines > 0 and self._there()
        return self._raw(self._log)

    def list_namespaced_event(self, namespace: str, *, field_selector: str, _preload_content: bool) -> Any:
        assert field_selector == "involvedObject.name=fit-x"
        return self._raw(json.dumps({"items": self._events}))

    def delete_namespaced_pod(self, name: str, namespace: str) -> None:
        self.deleted.append(name)

    def _there(self) -> dict[str, Any]:
        if self._pod is None:
            raise ApiException(status=404)
        return self._pod

    def _raw(self, text: str) -> Any:
        return SimpleNamespace(data=text.encode())


def _ended(
    monkeypatch: pytest.MonkeyPatch,
    status: dict[str, Any] | None,
    *,
    log: str = "",
    events: list[dict[str, Any]] | None = None,
    how: str = "failed",
) -> tuple[AirflowException, FailureRecord, Cluster]:
    """What the task raises when its trigger says so, the record, and the cluster."""

    def provider(self: Any, context: Any, event_: Any) -> None:
        raise AirflowException("Pod fit-x returned a failure.")

    monkeypatch.setattr(KubernetesPodOperator, "trigger_reentry", provider)
    with DAG("train__x"):
        inputs = {"hyperparameters": {"learning_rate": 0.1}}
        operator = KubernetesStepOperator(task_id="fit", family="compliance_qa", step="fit", inputs=inputs)
    cluster = Cluster(status, log, events or [])
    operator.__dict__["client"] = cluster
    run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id="manual__1", triggering_user_name=None)
    ti = SimpleNamespace(map_index=-1, try_number=1, run_id="manual__1")
    context: Any = {"dag_run": run, "params": DEFAULTS, "ti": ti}
    with pytest.raises(AirflowException) as caught:
        operator.trigger_reentry(context, {"status": how, "name": "fit-x", "namespace": "windtunnel", "message": "m"})
    store = open_store(Settings.from_env().store_url)
    (record,) = read_failures(store, operator.write_document(context).output)
    return caught.value, record, cluster


def test_an_evicted_pod_starts_again_for_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    error, record, cluster = _ended(monkeypatch, pod(reason="Evicted", message=LOW_MEMORY, state=terminated(137)))
    assert isinstance(error, AirflowRescheduleException)
    assert (record.ending, record.attempt, record.exit_code) == (Ending.EVICTED, "0d6e", 137)
    assert record.usage == {"seconds": 3600.0}
    assert cluster.deleted == []


def test_a_pod_over_its_memory_limit_gets_smaller_batches(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    error, record, _ = _ended(monkeypatch, pod(state=terminated(137, "OOMKilled")))
    assert isinstance(error, AirflowRescheduleException)
    assert record.ending is Ending.OUT_OF_MEMORY and record.adjustment.batch_divisor == 2


def test_a_pod_that_is_gone_was_preempted_if_its_events_say_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, record, _ = _ended(monkeypatch, None, events=[event("Preempted", "by serving/gateway-1 on node n1")])
    assert isinstance(error, AirflowRescheduleException)
    assert (record.ending, record.attempt) == (Ending.PREEMPTED, "fit-x")


def test_a_pod_that_somebody_deleted_uses_an_ordinary_retry(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, record, _ = _ended(monkeypatch, None)
    assert isinstance(error, StepFailed) and record.ending is Ending.KILLED


def test_an_error_is_read_from_the_log_where_the_step_left_no_record(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = "starting\nModuleNotFoundError: No module named 'include'\n"
    error, record, _ = _ended(monkeypatch, pod(state=terminated(1)), log=log)
    assert isinstance(error, AirflowFailException)
    assert record.line == "ModuleNotFoundError: No module named 'include'"


def test_a_pod_that_never_started_does_not_start_beside_the_next_try(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_NODE}]
    error, record, cluster = _ended(monkeypatch, pod(phase="Pending", conditions=waits), how="timeout")
    assert isinstance(error, StepFailed) and record.ending is Ending.UNSCHEDULABLE
    assert error.pause is not None and error.pause.total_seconds() == 300
    assert cluster.deleted == ["fit-x"]


def test_a_pod_that_ran_too_long_is_told_apart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _, record, cluster = _ended(monkeypatch, pod(phase="Running", state={"running": {}}), how="timeout")
    assert record.ending is Ending.TIMED_OUT and cluster.deleted == ["fit-x"]


def test_a_drain_is_no_fault_of_the_step(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    drained = pod(deleted=True, conditions=disrupted("EvictionByEvictionAPI", "Eviction API: evicting"))
    assert _ended(monkeypatch, drained)[1].ending is Ending.PREEMPTED
