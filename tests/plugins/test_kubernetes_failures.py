"""A Kubernetes pod that ended badly: what is read of it before it is cleaned up, and what the task raises."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.providers.cncf.kubernetes")

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException
from kubernetes.client.exceptions import ApiException

from include.failures.endings import Ending
from include.failures.records import FailureRecord, read_failures
from include.settings import Settings
from include.store.objects import open_store
from plugins.windtunnel.operators import step as step_module
from plugins.windtunnel.operators.failed import StepFailed
from plugins.windtunnel.operators.kubernetes_step import KubernetesStepOperator
from tests.failures.pods import LOW_MEMORY, NO_NODE, disrupted, event, pod, terminated
from tests.plugins.test_runs import DEFAULTS


class Api:
    """The calls of `CoreV1Api` that the operator makes, with the raw answers of the API."""

    def __init__(self, status: dict[str, Any] | None, log: str, events: list[dict[str, Any]]) -> None:
        self.deleted: list[str] = []
        self._pod, self._log, self._events = status, log, events

    def read_namespaced_pod(self, name: str, namespace: str, **_: Any) -> Any:
        return self._raw(json.dumps(self._there()))

    def read_namespaced_pod_log(self, name: str, namespace: str, *, container: str, tail_lines: int, **_: Any) -> Any:
        assert container == "base" and tail_lines > 0 and self._there()
        return self._raw(self._log)

    def list_namespaced_event(self, namespace: str, *, field_selector: str, **_: Any) -> Any:
        assert field_selector == "involvedObject.name=fit-x"
        return self._raw(json.dumps({"items": self._events}))

    def delete_namespaced_pod(self, name: str, namespace: str, **_: Any) -> Any:
        self.deleted.append(name)
        return self._raw("{}")

    def _there(self) -> dict[str, Any]:
        if self._pod is None:
            raise ApiException(status=404)
        return self._pod

    def _raw(self, text: str) -> Any:
        return SimpleNamespace(data=text.encode())


def _ended(
    status: dict[str, Any] | None,
    *,
    log: str = "",
    events: list[dict[str, Any]] | None = None,
    how: str = "failed",
    seen: dict[str, Any] | None = None,
    tail: list[str] | None = None,
) -> tuple[AirflowException, FailureRecord, Api]:
    """What the task raises when its trigger says so and the API gives `status`, the record, and the API."""
    with DAG("train__x"):
        inputs = {"hyperparameters": {"learning_rate": 0.1}}
        operator = KubernetesStepOperator(task_id="fit", family="compliance_qa", step="fit", inputs=inputs)
    api = Api(status, log, events or [])
    operator.__dict__["client"] = api
    run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id="manual__1", triggering_user_name=None)
    ti = SimpleNamespace(map_index=-1, try_number=1, run_id="manual__1")
    context: Any = {"dag_run": run, "params": DEFAULTS, "ti": ti}
    event = {"status": how, "name": "fit-x", "namespace": "windtunnel", "pod": seen, "tail": tail or []}
    with pytest.raises(AirflowException) as caught:
        operator.trigger_reentry(context, event)
    store = open_store(Settings.from_env().store_url)
    (record,) = read_failures(store, operator.write_document(context).output)
    return caught.value, record, api


def test_an_evicted_pod_starts_again_for_nothing(settings: Settings) -> None:
    error, record, api = _ended(pod(reason="Evicted", message=LOW_MEMORY, state=terminated(137)))
    assert isinstance(error, AirflowRescheduleException)
    assert (record.ending, record.attempt, record.exit_code) == (Ending.EVICTED, "0d6e", 137)
    assert record.usage == {"seconds": 3600.0}
    assert api.deleted == []


def test_a_pod_over_its_memory_limit_gets_smaller_batches(settings: Settings) -> None:
    error, record, _ = _ended(pod(state=terminated(137, "OOMKilled")))
    assert isinstance(error, AirflowRescheduleException)
    assert record.ending is Ending.OUT_OF_MEMORY and record.adjustment.batch_divisor == 2


def test_a_pod_that_is_gone_was_preempted_if_its_events_say_so(settings: Settings) -> None:
    error, record, _ = _ended(None, events=[event("Preempted", "by serving/gateway-1 on node n1")])
    assert isinstance(error, AirflowRescheduleException)
    assert (record.ending, record.attempt) == (Ending.PREEMPTED, "fit-x")


def test_a_pod_that_somebody_deleted_uses_an_ordinary_retry(settings: Settings) -> None:
    error, record, _ = _ended(None)
    assert isinstance(error, StepFailed) and record.ending is Ending.KILLED


def test_an_error_is_read_from_the_log_where_the_step_left_no_record(settings: Settings) -> None:
    log = "starting\nModuleNotFoundError: No module named 'include'\n"
    error, record, _ = _ended(pod(state=terminated(1)), log=log)
    assert isinstance(error, AirflowFailException)
    assert record.line == "ModuleNotFoundError: No module named 'include'"


def test_a_pod_that_never_started_does_not_start_beside_the_next_try(settings: Settings) -> None:
    waits = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_NODE}]
    error, record, api = _ended(pod(phase="Pending", conditions=waits), how="pending")
    assert isinstance(error, StepFailed) and record.ending is Ending.UNSCHEDULABLE
    assert error.pause is not None and error.pause.total_seconds() == 300
    assert api.deleted == ["fit-x"]


def test_a_pod_that_ran_too_long_is_told_apart(settings: Settings) -> None:
    _, record, api = _ended(pod(phase="Running", state={"running": {}}), how="timeout")
    assert record.ending is Ending.TIMED_OUT and api.deleted == ["fit-x"]


def test_a_drain_is_no_fault_of_the_step(settings: Settings) -> None:
    drained = pod(deleted=True, conditions=disrupted("EvictionByEvictionAPI", "Eviction API: evicting"))
    assert _ended(drained)[1].ending is Ending.PREEMPTED


def test_what_the_trigger_saw_last_counts_where_the_pod_is_gone(settings: Settings) -> None:
    seen = pod(deleted=True, conditions=disrupted("PreemptionByScheduler", "preempting to make room"))
    error, record, _ = _ended(None, how="gone", seen=seen, tail=["step 7"])
    assert isinstance(error, AirflowRescheduleException)
    assert (record.ending, record.attempt) == (Ending.PREEMPTED, "0d6e")


def test_the_last_words_that_the_trigger_heard_count_where_the_pod_is_gone(settings: Settings) -> None:
    seen = pod(state=terminated(1))
    _, record, _ = _ended(None, seen=seen, tail=["ModuleNotFoundError: No module named 'torch'"])
    assert record.line == "ModuleNotFoundError: No module named 'torch'"


def test_a_deletion_that_no_kubelet_confirms_is_a_lost_node(settings: Settings) -> None:
    error, record, _ = _ended(pod(phase="Running", state={"running": {}}, deleted=True), how="gone")
    assert isinstance(error, AirflowRescheduleException) and record.ending is Ending.NODE_LOST


def test_a_success_without_a_result_is_none(settings: Settings) -> None:
    error, record, _ = _ended(pod(phase="Succeeded", state=terminated(0, "Completed")), how="success")
    assert isinstance(error, StepFailed) and record.exit_code == 0


def test_a_result_counts_though_the_code_changed_while_the_pod_ran(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DAG("train__x"):
        operator = KubernetesStepOperator(task_id="fit", family="compliance_qa", step="fit", inputs={})
    operator.__dict__["client"] = Api(None, "", [])
    run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id="manual__1", triggering_user_name=None)
    ti = SimpleNamespace(map_index=-1, try_number=1, run_id="manual__1")
    context: Any = {"dag_run": run, "params": DEFAULTS, "ti": ti}
    before = operator.write_document(context)
    open_store(settings.store_url).put(before.result_key, b'{"outputs": {"digest": "d"}}')
    monkeypatch.setattr(step_module, "code_version", lambda: "another")
    event = {"status": "success", "name": "fit-x", "namespace": "windtunnel", "pod": None, "tail": []}
    assert operator.trigger_reentry(context, event) == {"digest": "d"}
