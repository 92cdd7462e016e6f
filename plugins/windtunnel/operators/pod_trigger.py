"""Waits on the triggerer for the end of a step's pod, and tells its log meanwhile.

When a person ends the task (marks it, clears it), Airflow calls `on_kill`, and the pod goes. When the triggerer itself
ends, it does not: the pod runs on, and the trigger is started again elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.pods.contract import PodError
from include.pods.watch import PodEnd, PodWatch

#: Of the pod as it was last seen, what tells how it ended.
_TOLD = ("metadata", "status")
_META = frozenset({"name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"})


class StepPodTrigger(BaseTrigger):
    """Fires `{"status", "name", "namespace", "pod", "tail"}` when the pod ended; see `include.pods.watch`.

    Args:
        deadline: Seconds since the epoch.
    """

    def __init__(
        self,
        pod_name: str,
        pod_namespace: str,
        kubernetes_conn_id: str | None,
        pending_seconds: float,
        deadline: float | None,
        grace_seconds: int,
    ) -> None:
        super().__init__()
        self.pod_name = pod_name
        self.pod_namespace = pod_namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.pending_seconds = pending_seconds
        self.deadline = deadline
        self.grace_seconds = grace_seconds
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {
            "pod_name": self.pod_name,
            "pod_namespace": self.pod_namespace,
            "kubernetes_conn_id": self.kubernetes_conn_id,
            "pending_seconds": self.pending_seconds,
            "deadline": self.deadline,
            "grace_seconds": self.grace_seconds,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    @cached_property
    def hook(self) -> AsyncKubernetesHook:
        return AsyncKubernetesHook(conn_id=self.kubernetes_conn_id)

    def tell(self, line: str) -> None:
        """Is given each line of the pod's log."""
        self.log.info("%s", line)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        payload: dict[str, Any] = {"name": self.pod_name, "namespace": self.pod_namespace}
        watch = PodWatch(
            self.hook.get_conn,
            self.pod_name,
            self.pod_namespace,
            tell=self.tell,
            pending_seconds=self.pending_seconds,
            deadline=self.deadline,
        )
        try:
            watched = await watch.run()
        except PodError as error:
            payload |= {"status": "error", "message": str(error), "pod": None, "tail": []}
        else:
            payload |= {"status": watched.end.value, "pod": None, "tail": []}
            if watched.end is not PodEnd.SUCCEEDED:  # Airflow writes the event into the task's log: only what is needed
                payload |= {"pod": told(watched.pod), "tail": watched.tail}
        self._fired = True
        yield TriggerEvent(payload)

    async def on_kill(self) -> None:
        if not self._fired:
            self.log.warning("the task was ended: deleting pod %s", self.pod_name)
            await self.hook.delete_pod(self.pod_name, self.pod_namespace, self.grace_seconds)


def told(pod: dict[str, Any] | None) -> dict[str, Any] | None:
    """What an event holds of a pod."""
    if pod is None:
        return None
    parts = {key: pod[key] for key in _TOLD if key in pod}
    return {**parts, "metadata": {key: value for key, value in parts["metadata"].items() if key in _META}}
