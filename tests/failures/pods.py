"""Pods as the Kubernetes API gives them, cut down to what tells how they ended.

Written from the API reference (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/) and the
pages on disruptions, node-pressure eviction, graceful node shutdown and pod priority, for v1.20 and from v1.26.
"""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def pod(
    *,
    phase: str = "Failed",
    reason: str = "",
    message: str = "",
    state: Record | None = None,
    conditions: list[Record] | None = None,
    init: Record | None = None,
    deleted: bool = False,
) -> Record:
    """A pod; `state` is that of its container `base`."""
    status: Record = {"phase": phase, "qosClass": "Guaranteed", "conditions": conditions or []}
    if reason:
        status |= {"reason": reason, "message": message}
    if state is not None:
        status["containerStatuses"] = [{"name": "base", "ready": False, "restartCount": 0, "state": state}]
    if init is not None:
        status["initContainerStatuses"] = [{"name": "init", "ready": False, "restartCount": 0, "state": init}]
    metadata: Record = {"name": "train-x", "namespace": "windtunnel", "uid": "0d6e"}
    if deleted:
        metadata |= {"deletionTimestamp": "2026-11-02T09:00:30Z", "deletionGracePeriodSeconds": 30}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}


def terminated(code: int, reason: str = "Error", message: str | None = None) -> Record:
    state: Record = {
        "exitCode": code,
        "reason": reason,
        "startedAt": "2026-11-02T08:00:00Z",
        "finishedAt": "2026-11-02T09:00:00Z",
    }
    return {"terminated": state | ({"message": message} if message else {})}


def waiting(reason: str, message: str) -> Record:
    return {"waiting": {"reason": reason, "message": message}}


def disrupted(reason: str, message: str) -> list[Record]:
    """The condition of v1.26 and later, beside one that says nothing about the end."""
    return [
        {"type": "Ready", "status": "False", "reason": "PodFailed"},
        {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message},
    ]


def event(reason: str, message: str) -> Record:
    return {"type": "Warning", "reason": reason, "message": message}


LOW_MEMORY = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 84Mi. Container base was using "
    "7200Mi, request is 6Gi, has larger consumption of memory. "
)
SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
NO_NODE = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
