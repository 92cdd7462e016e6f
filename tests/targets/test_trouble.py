"""Why gateways do not come up, read off what Kubernetes says; the records are those of real clusters, shortened."""

from __future__ import annotations

from typing import Any

import pytest

from include.targets.trouble import begun, of_deployment, of_pod, ready, telling

C = "gateway"


def pod(entry: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    entries = [{"name": "other", "started": True, "state": {"running": {}}}, {"name": C, **(entry or {})}]
    return {"metadata": {"name": "p"}, "status": {"phase": "Running", "containerStatuses": entries, **status}}


@pytest.mark.parametrize(
    ("state", "kind", "stuck"),
    [
        ({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}, "image", True),
        ({"waiting": {"reason": "ErrImageNeverPull"}}, "image", True),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}},
            "cannot start",
            True,
        ),
    ],
)
def test_containers_that_never_ran(state: dict[str, Any], kind: str, stuck: bool) -> None:
    found = of_pod(pod({"state": state}), C)
    assert found is not None and (found.kind, found.stuck) == (kind, stuck) and found.hint
    assert state["waiting"].get("message", "") in found.line


def test_a_crash_tells_its_line_and_is_given_up_after_the_second() -> None:
    entry = {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}},
        "restartCount": 1,
    }
    log = ["2026-01-01 INFO starts", "WINDTUNNEL_DATABASE_URL: no such database", "  what to do: make it"]
    first, again = of_pod(pod(entry), C, log), of_pod(pod({**entry, "restartCount": 2}), C, log)
    assert first is not None and again is not None
    assert first.kind == "crash loop" and not first.stuck and again.stuck
    assert "exit code 2: WINDTUNNEL_DATABASE_URL: no such database (what to do: make it)" in again.line


def test_too_little_memory_is_told_as_that() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    found = of_pod(pod({"state": ended, "restartCount": 0}), C)
    assert found is not None and "OOMKilled" in found.line and "raise `memory`" in found.hint


def test_a_pod_without_a_node_may_find_one() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    found = of_pod({"metadata": {}, "status": {"phase": "Pending", "conditions": [condition]}}, C)
    assert found is not None and (found.kind, found.line, found.stuck) == ("unschedulable", "0/3 nodes", False)


def test_processes_that_end_inside_of_a_running_container() -> None:
    running = pod({"state": {"running": {}}})
    assert of_pod(running, C, ["INFO all is well"]) is None
    log = ["Traceback", "include.errors.UserError: WINDTUNNEL_STORE_URL: unknown object store", "ERROR it is replaced"]
    found = of_pod(running, C, log)
    assert found is not None and found.kind == "does not start" and "unknown object store" in found.line


@pytest.mark.parametrize(
    ("message", "kind"), [("pods is forbidden: exceeded quota: small", "quota"), ("violates PodSecurity", "refused")]
)
def test_pods_that_cannot_be_made(message: str, kind: str) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    found = of_deployment({"status": {"conditions": [condition]}})
    assert found is not None and found.kind == kind and found.stuck and message in str(found)
    assert of_deployment({"status": {"conditions": [{**condition, "status": "False"}]}}) is None


def test_ready_and_begun() -> None:
    conditions = [{"type": "Ready", "status": "True"}]
    serving = pod({"started": True, "state": {"running": {}}}, conditions=conditions)
    assert ready(serving) and begun(serving, C)
    serving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not ready(serving)
    assert not begun(pod({"started": False, "state": {"running": {}}}), C)


def test_the_line_that_matters() -> None:
    assert telling(["ValueError: no", "INFO bye"]) == "ValueError: no"
    assert telling(["torch.OutOfMemoryError: x", "ValueError: no"]) == "torch.OutOfMemoryError: x"
    assert telling(["hello", "", "bye", ""]) == "bye"
    assert telling([]) == ""
