"""Waits on the triggerer for the end of the pods that train one model together, and tells their logs meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from include.pods.contract import PodError
from include.pods.gang import GangWatch
from include.pods.watch import PodEnd
from plugins.windtunnel.operators.pod_trigger import PodsTrigger, told

_TAIL_LINES = 20  # of each pod: an event lies in Airflow's database


class GangTrigger(PodsTrigger):
    """Fires `{"status", "name", "namespace", "ends"}`; `ends` has `{"status", "name", "pod", "tail"}` of each pod whose
    end is known. The others were told to end (`include.pods.gang`). Node 0's pod is the first.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        first = self.pod_names[0]
        payload: dict[str, Any] = {"name": first, "namespace": self.pod_namespace, "ends": []}
        watches = {
            name: self.watch(name, f"[node {node}] %s" if node else "%s") for node, name in enumerate(self.pod_names)
        }
        try:
            ends = await GangWatch(watches, self.delete).run()
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
