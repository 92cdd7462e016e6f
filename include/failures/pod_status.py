"""What a Kubernetes pod's own status says about its end.

Input is the pod as the API gives it (`kubectl get pod -o json`), from v1.20 to today. Since v1.26 a pod that is
disrupted carries the condition `DisruptionTarget` with a reason; before, only `status.reason` and the pod's events
tell, and a pod that the scheduler preempted is merely deleted. See "Pod disruption conditions" under
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/ and, for container reasons,
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.failures.endings import Ending

Record = Mapping[str, Any]

#: Reasons of the condition `DisruptionTarget`.
_DISRUPTIONS = {
    "PreemptionByScheduler": Ending.PREEMPTED,
    "EvictionByEvictionAPI": Ending.PREEMPTED,  # a drain: of a person, or of what scales and reclaims nodes
    "DeletionByTaintManager": Ending.NODE_LOST,  # the node is not ready or unreachable
    "DeletionByPodGC": Ending.NODE_LOST,  # the node is no more
    "TerminationByKubelet": Ending.EVICTED,  # node pressure, or the node shuts down
}

#: `status.reason`.
_POD_REASONS = {
    "Evicted": Ending.EVICTED,
    "Preempting": Ending.PREEMPTED,  # by the kubelet, for a critical pod
    "NodeLost": Ending.NODE_LOST,
    "NodeShutdown": Ending.NODE_LOST,  # v1.21; Shutdown and Terminated came after it
    "Shutdown": Ending.NODE_LOST,
    "Terminated": Ending.NODE_LOST,
    "DeadlineExceeded": Ending.TIMED_OUT,  # spec.activeDeadlineSeconds
    "NodeAffinity": Ending.UNSCHEDULABLE,
    "UnexpectedAdmissionError": Ending.UNSCHEDULABLE,  # such as a device plugin that gave no device
}
_REFUSED = re.compile(r"OutOf\w")  # OutOfcpu, OutOfmemory, OutOfnvidia.com/gpu: the kubelet had no room after all

#: Waiting container. CrashLoopBackOff is no end of a pod that is never restarted.
_WAITING = {
    "ErrImagePull": Ending.IMAGE,
    "ImagePullBackOff": Ending.IMAGE,
    "ErrImageNeverPull": Ending.IMAGE,
    "InvalidImageName": Ending.IMAGE,
    "ImageInspectError": Ending.IMAGE,
    "RegistryUnavailable": Ending.IMAGE,
    "CreateContainerConfigError": Ending.USER,  # such as a secret that is not there
    "CreateContainerError": Ending.USER,
}

#: Terminated container. `Error` and `Completed` only repeat the exit code.
_TERMINATED = {
    "OOMKilled": Ending.OUT_OF_MEMORY,
    "ContainerCannotRun": Ending.USER,  # dockershim's word for StartError: the command is not there
    "StartError": Ending.USER,
    "DeadlineExceeded": Ending.TIMED_OUT,
    "Evicted": Ending.EVICTED,
    "ContainerStatusUnknown": Ending.NODE_LOST,  # the node came back without the container
}

_EVENTS = {
    "Preempted": Ending.PREEMPTED,
    "Evicted": Ending.EVICTED,
    "TaintManagerEviction": Ending.NODE_LOST,
    "NodeNotReady": Ending.NODE_LOST,
    "FailedScheduling": Ending.UNSCHEDULABLE,
}

#: The pod outgrew a limit of its own: it would do so again.
_OWN_LIMIT = re.compile(
    r"ephemeral local storage usage exceeds|exceeded its local ephemeral storage limit|exceeds the limit", re.IGNORECASE
)


@dataclass(frozen=True)
class Finding:
    """An ending, the words that tell it, and where they stand."""

    ending: Ending
    line: str
    where: str


def disruption(pod: Record, events: Sequence[Record]) -> Finding | None:
    """What took the pod away, or kept it from starting; None where nothing of that kind is told."""
    status = pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    if _OWN_LIMIT.search(message):
        return Finding(Ending.USER, message, "status.reason Evicted; resources.ephemeral_storage")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            why = str(condition.get("reason") or "")
            ending = _DISRUPTIONS.get(why, Ending.PREEMPTED)
            if why == "TerminationByKubelet" and (reason in _POD_REASONS):
                ending = _POD_REASONS[reason]
            text = str(condition.get("message") or message or why)
            return Finding(ending, text, f"condition DisruptionTarget, {why}")
    if reason in _POD_REASONS or _REFUSED.match(reason):
        return Finding(_POD_REASONS.get(reason, Ending.UNSCHEDULABLE), message or reason, f"status.reason {reason}")
    return _unscheduled(status) or _told_by_events(events, str(status.get("phase") or ""))


def container(pod: Record, name: str) -> Finding | None:
    """What the state of the container `name` (or of an init container) tells, beyond its exit code."""
    for entry in _containers(pod, name):
        state = entry.get("state") or {}
        for kind, table in (("terminated", _TERMINATED), ("waiting", _WAITING)):
            found = state.get(kind) or {}
            reason = str(found.get("reason") or "")
            if reason in table:
                code = f", exit code {found['exitCode']}" if "exitCode" in found else ""
                line = f"{reason}: {found['message']}" if found.get("message") else f"{reason}{code}"
                return Finding(table[reason], line, f"container {entry.get('name')}, {kind}")
    return None


def exit_code(pod: Record, name: str) -> int | None:
    """The exit code of the container `name`; None while it has none."""
    for entry in (pod.get("status") or {}).get("containerStatuses") or []:
        ended = (entry.get("state") or {}).get("terminated") or {}
        if entry.get("name") == name and "exitCode" in ended:
            return int(ended["exitCode"])
    return None


def seconds(pod: Record, name: str) -> float | None:
    """How long the container `name` ran, to its end; None where that is not told."""
    for entry in (pod.get("status") or {}).get("containerStatuses") or []:
        ended = (entry.get("state") or {}).get("terminated") or {}
        if entry.get("name") == name and ended.get("startedAt") and ended.get("finishedAt"):
            start, end = (datetime.fromisoformat(str(ended[key])) for key in ("startedAt", "finishedAt"))
            return max(0.0, (end - start).total_seconds())
    return None


def finished_at(pod: Record, name: str) -> str:
    """When the container `name` ended, as the API writes it; "" where that is not told."""
    for entry in (pod.get("status") or {}).get("containerStatuses") or []:
        if entry.get("name") == name:
            return str(((entry.get("state") or {}).get("terminated") or {}).get("finishedAt") or "")
    return ""


def started(pod: Record, name: str) -> bool:
    """Whether the container `name` runs or has run."""
    return any(
        entry.get("name") == name and not {"running", "terminated"}.isdisjoint(entry.get("state") or {})
        for entry in (pod.get("status") or {}).get("containerStatuses") or []
    )


def ended(pod: Record, name: str) -> bool | None:
    """Whether the pod ended well; None while it has not ended. A container beside `name` may run on for ever."""
    code, phase = exit_code(pod, name), (pod.get("status") or {}).get("phase")
    if code is None and phase not in ("Succeeded", "Failed"):
        return None
    return phase != "Failed" and (code or 0) == 0


def stuck(pod: Record) -> bool:
    """Whether a container waits for what will hardly come, such as an image that is not there."""
    status = pod.get("status") or {}
    entries = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    return any(((entry.get("state") or {}).get("waiting") or {}).get("reason") in _WAITING for entry in entries)


def deleted(pod: Record) -> bool:
    """Whether somebody deleted the pod."""
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def _containers(pod: Record, name: str) -> Iterator[Record]:
    status = pod.get("status") or {}
    yield from (entry for entry in status.get("containerStatuses") or [] if entry.get("name") == name)
    yield from status.get("initContainerStatuses") or []


def _unscheduled(status: Record) -> Finding | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            text = str(condition.get("message") or condition.get("reason") or "")
            return Finding(Ending.UNSCHEDULABLE, text, f"condition PodScheduled, {condition.get('reason')}")
    return None


def _told_by_events(events: Sequence[Record], phase: str) -> Finding | None:
    for event in reversed(events):
        reason = str(event.get("reason") or "")
        if reason == "FailedScheduling" and phase != "Pending":
            continue  # it waited for a node, and got one
        if reason in _EVENTS:
            return Finding(_EVENTS[reason], str(event.get("message") or reason), f"event {reason}")
    return None
