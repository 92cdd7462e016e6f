"""Waits on the triggerer for the end of the pods that train one model together, and tells their logs meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import cached_property, partial
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.pods.contract import PodError
from include.pods.gang import GangWatch
from include.pods.watch import PodEnd, PodWatch
from plugins.windtunnel.operators.pod_trigger import told

_TAIL_LINES = 20  # of each pod: an event lies in Airflow's database


class GangTrigger(BaseTrigger):
    """Fires `{"status", "name", "namespace", "ends"}`; `ends` has `{"status", "name", "pod", "tail"}` of each pod whose
    end is known. The others were told to end (`include.pods.gang`).

    Args:
        pod_names: Node 0's first, which is the event's name.
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

    async def run(self) -> AsyncIterator[TriggerEvent]:
        first = self.pod_names[0]
        payload: dict[str, Any] = {"name": first, "namespace": self.pod_namespace, "ends": []}
        watches = {name: self._watch(name, node) for node, name in enumerate(self.pod_names)}
        try:
            ends = await GangWatch(watches, self._delete).run()
        except PodError as error:
            payload |= {"status": "error", "message": str(error)}
        else:
            payload["status"] = ends[first].end.value if first in ends else "failed"
            payload["ends"] = [
                {
                    "status": watched.end.value,
                    "name": name,
                    "pod": told(watched.pod),
                    "tail": [] if watched.end is PodEnd.SUCCEEDED else watched.tail[-_TAIL_LINES:],
                }
                for name, watched in ends.items()
            ]
        self._fired = True
        yield TriggerEvent(payload)

    async def on_kill(self) -> None:
        if not self._fired:
            self.log.warning("the task was ended: deleting pods %s", ", ".join(self.pod_names))
            for name in self.pod_names:
                await self._delete(name)

    def _watch(self, name: str, node: int) -> PodWatch:
        tell: Callable[[str], None] = partial(self.log.info, f"[node {node}] %s" if node else "%s")
        return PodWatch(
            self.hook.get_conn,
            name,
            self.pod_namespace,
            tell=tell,
            pending_seconds=self.pending_seconds,
            deadline=self.deadline,
        )

    async def _delete(self, name: str) -> None:
        await self.hook.delete_pod(name, self.pod_namespace, self.grace_seconds)
