"""The ways in which a pod ends badly, for real: each is told apart, and the task does what the policy says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException

from include.failures.endings import Ending
from include.failures.policy import Action
from plugins.windtunnel.operators.failed import StepFailed
from tests.kubernetes.cluster import Site
from tests.kubernetes.conftest import Made, Steps, wait_for
from tests.kubernetes.fake_node import FakeNode

UNREACHABLE = [
    {"key": "fakenode", "operator": "Exists"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1},
]


def _ends(steps: Steps, made: Made) -> AirflowException:
    with pytest.raises(AirflowException) as caught:
        steps.run(made)
    return caught.value


def test_a_users_error_in_mid_training_fails_at_once_with_the_line_that_matters(steps: Steps) -> None:
    made = steps.make("user", seconds=2)
    error = _ends(steps, made)
    assert isinstance(error, AirflowFailException)
    assert "the learning rate is -1 (hyperparameters.learning_rate). What to do: make it positive" in str(error)
    (record,) = steps.failures(made)
    assert (record.ending, record.action, record.exit_code) == (Ending.USER, Action.FAIL, 2)
    assert record.usage["seconds"] > 1
    assert steps.pod(made, "Failed")["metadata"]["uid"] == record.attempt, "the pod is kept to be looked at"


def test_an_exit_without_a_record_is_told_from_the_log(steps: Steps) -> None:
    made = steps.make("exit", code=3)
    assert isinstance(_ends(steps, made), StepFailed)
    (record,) = steps.failures(made)
    assert (record.ending, record.exit_code, record.line) == (Ending.UNKNOWN, 3, "a library's last words")


def test_a_pod_over_its_memory_limit_is_tried_again_with_smaller_batches(steps: Steps) -> None:
    made = steps.make("memory", fits=8)
    assert isinstance(_ends(steps, made), AirflowRescheduleException)
    (record,) = steps.failures(made)
    assert (record.ending, record.exit_code, record.action) == (Ending.OUT_OF_MEMORY, 137, Action.AGAIN)
    assert steps.run(steps.again(made)) == {"batch_size": 8}


def test_a_deleted_pod_uses_a_retry_and_the_retry_has_a_pod_of_its_own(steps: Steps) -> None:
    made = steps.make("works", seconds=600)
    running = steps.begin(made)
    first = steps.pod(made)["metadata"]
    steps.site.kubectl("delete", "pod", first["name"], "--wait=false")
    error = running.exception()
    assert isinstance(error, StepFailed), error
    (record,) = steps.failures(made)
    assert (record.ending, record.attempt) == (Ending.KILLED, first["uid"])
    again = steps.begin(steps.again(made))
    second = steps.pod(made, number=1)["metadata"]
    assert second["uid"] != first["uid"]
    steps.site.kubectl("delete", "pod", second["name"], "--wait=false")
    assert isinstance(again.exception(), StepFailed)
    assert [failure.attempt for failure in steps.failures(made)] == [first["uid"], second["uid"]]


def test_an_eviction_through_the_api_is_a_drain_where_the_cluster_says_so(steps: Steps) -> None:
    made = steps.make("works", seconds=600)
    running = steps.begin(made)
    pod = steps.pod(made)["metadata"]
    version = "v1" if steps.site.version() >= (1, 22) else "v1beta1"
    meta = {"name": pod["name"], "namespace": pod["namespace"]}
    eviction = {"apiVersion": f"policy/{version}", "kind": "Eviction", "metadata": meta}
    path = f"/api/v1/namespaces/{pod['namespace']}/pods/{pod['name']}/eviction"
    steps.site.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
    error = running.exception()
    (record,) = steps.failures(made)
    if steps.site.version() >= (1, 26):
        assert isinstance(error, AirflowRescheduleException) and record.ending is Ending.PREEMPTED
    else:  # an older API server deletes the pod, and nothing tells why
        assert isinstance(error, StepFailed) and record.ending is Ending.KILLED


def test_an_evicted_pod_starts_again_for_nothing(steps: Steps, fake_node: str) -> None:
    message = "The node was low on resource: memory. Container base was using 900Mi."
    made = steps.make("works", resources=steps.play(fake_node, log=["step 1"], evict=message))
    assert isinstance(_ends(steps, made), AirflowRescheduleException)
    (record,) = steps.failures(made)
    assert (record.ending, record.action, record.line) == (Ending.EVICTED, Action.AGAIN, message)


def test_a_pod_that_makes_way_for_another_starts_again_for_nothing(
    steps: Steps, fake_node: str, priorities: tuple[str, str]
) -> None:
    low, high = priorities
    place = steps.play(fake_node, run=None)
    made = steps.make("works", resources={**place, "cpu": "20", "priority_class": low})
    running = steps.begin(made)
    victim = steps.pod(made)
    other = {**victim["spec"], "priorityClassName": high, "priority": None, "nodeName": None}
    meta = {"name": "important", "namespace": steps.site.namespace}
    steps.site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": other})
    error = running.exception()
    assert isinstance(error, AirflowRescheduleException), error
    (record,) = steps.failures(made)
    assert (record.ending, record.action, record.attempt) == (
        Ending.PREEMPTED, Action.AGAIN, victim["metadata"]["uid"],
    )  # fmt: skip
    steps.site.kubectl("delete", "pod", "important", "--wait=false")


def test_a_lost_node_is_no_fault_of_the_step(steps: Steps, site: Site) -> None:
    with FakeNode(site.config) as node:
        place = steps.play(node.name, run=None)
        made = steps.make("works", resources={**place, "tolerations": UNREACHABLE})
        running = steps.begin(made)
        steps.pod(made)
        node.kill()
        error = running.exception(400)
    assert isinstance(error, AirflowRescheduleException), error
    (record,) = steps.failures(made)
    assert (record.ending, record.action) == (Ending.NODE_LOST, Action.AGAIN)


def test_a_pod_that_no_node_takes_is_given_up_and_does_not_start_later(steps: Steps) -> None:
    made = steps.make("works", resources={"node_selector": {"no": "such"}, "pending_minutes": 1})
    error = _ends(steps, made)
    assert isinstance(error, StepFailed) and "no node can take the pod" in str(error)
    (record,) = steps.failures(made)
    assert record.ending is Ending.UNSCHEDULABLE and "node" in record.line
    name = made[0].manifest(made[1], made[0].write_document(made[1]))["metadata"]["name"]
    wait_for(lambda: not steps.named(name))


def test_an_image_that_is_not_there_is_told_soon(steps: Steps) -> None:
    made = steps.make("works", resources={"image": "registry.invalid/no@sha256:" + "0" * 64})
    error = _ends(steps, made)
    assert isinstance(error, StepFailed) and "the image cannot be pulled" in str(error)
    (record,) = steps.failures(made)
    assert record.ending is Ending.IMAGE


def test_a_quota_that_is_used_up_is_waited_for(steps: Steps) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    steps.site.apply(quota)
    try:
        wait_for(lambda: _status(steps, "resourcequota", "none").get("hard"))
        error = _ends(steps, steps.make("works"))
    finally:
        steps.site.kubectl("delete", "resourcequota", "none")
    assert isinstance(error, StepFailed) and "quota" in str(error) and error.pause is not None


def test_what_the_api_refuses_is_told_at_once(steps: Steps) -> None:
    made = steps.make("works", resources={"priority_class": "no-such-class"})
    assert "no-such-class" in str(_ends(steps, made))


@pytest.fixture
def priorities(site: Site) -> Any:
    """Two priority classes, the lower first."""
    names = tuple(f"{site.namespace}-{level}" for level in ("low", "high"))
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    site.apply(*({**kind, "metadata": {"name": name}, "value": 10 * (1 + n)} for n, name in enumerate(names)))
    yield names
    site.kubectl("delete", "priorityclass", *names)


def _status(steps: Steps, kind: str, name: str) -> dict[str, Any]:
    return dict(json.loads(steps.site.kubectl("get", kind, name, "-o", "json")).get("status") or {})
