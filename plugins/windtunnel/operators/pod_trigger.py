"""Waits on the triggerer for the end of a step's pod, and tells its log meanwhile.

When a person ends the task (marks it, clears it), Airflow calls `on_kill`, and the pod goes. When the triggerer itself
ends, it does not: the pod runs on, and the trigger is started again elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property, partial
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.pods.contract import PodError
from include.pods.watch import PodEnd, PodWatch

#: Of the pod as it was last seen, what tells how it ended.
_TOLD = ("metadata", "status")
_META = frozenset({"name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"})


class PodsTrigger(BaseTrigger):
    """What waiting for one pod and for several have in common.

    Args:
        pod_names: The first one's is the event's name.
        deadline: Seconds since the epoch.
    """

    def __init__(
        self,
        pod_names: list[str],
        pod_namespace: str,
        kubernetes_conn_id: str | None,
        pending_seconds: float,
        deadline: float | None,
        grace_seconds: int,
    ) -> None:
        super().__init__()
        self.pod_names = pod_names
        self.pod_namespace = pod_namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.pending_seconds = pending_seconds
        self.deadline = deadline
        self.grace_seconds = grace_seconds
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {
            "pod_names": self.pod_names,
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

    async def on_kill(self) -> None:
        if not self._fired:
            self.log.warning("the task was ended: deleting %s", ", ".join(self.pod_names))
            for name in self.pod_names:
                await self.delete(name)

    def watch(self, name: str, form: str = "%s") -> PodWatch:
        """A watch of the pod that tells each line of its log, as `form` has it."""
        return PodWatch(
            self.hook.get_conn,
            name,
            self.pod_namespace,
            tell=partial(self.tell, form),
            pending_seconds=self.pending_seconds,
            deadline=self.deadline,
        )

    def tell(self, form: str, line: str) -> None:
        """Writes a line of a pod's log into the task's."""
        self.log.info(form, line)

    async def delete(self, name: str) -> None:
        """Tells the pod to end."""
        await self.hook.delete_pod(name, self.pod_namespace, self.grace_seconds)


class StepPodTrigger(PodsTrigger):
    """Fires `{"status", "name", "namespace", "pod", "tail"}` when the only pod ended; see `include.pods.watch`."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        (name,) = self.pod_names
        payload: dict[str, Any] = {"name": name, "namespace": self.pod_namespace, "pod": None, "tail": []}
        try:
            watched = await self.watch(name).run()
        except PodError as error:
            payload |= {"status": "error", "message": str(error)}
        else:
            payload["status"] = watched.end.value
            if watched.end is not PodEnd.SUCCEEDED:  # Airflow writes the event into the task's log: only what is needed
                payload |= {"pod": told(watched.pod), "tail": watched.tail}
        self._fired = True
        yield TriggerEvent(payload)


def told(pod: dict[str, Any] | None) -> dict[str, Any] | None:
    """What an event holds of a pod."""
    if pod is None:
        return None
    parts = {key: pod[key] for key in _TOLD if key in pod}
    return {**parts, "metadata": {key: value for key, value in parts["metadata"].items() if key in _META}}
