"""Pods that train one model together: what their manifests have of it, and the watch over all of them.

All of them run, or none is left: where one found no place in time or ended badly, the others are told to end.

Where a site has a scheduler that places pods together (Kueue, Volcano, the coscheduling plugin), its pod template says
so, with `{gang}` and `{nodes}` in labels and annotations for the group's name and the number of its pods.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from include.pods.manifest import CONTAINER, Manifest, over
from include.pods.watch import PodEnd, PodWatch, Watched

#: How long the others are left alone after a bad end: they learn of it by themselves, and tell more than if they were
#: told to end.
_ECHO_SECONDS = 45.0


def node_name(gang: str, node: int) -> str:
    """Name of a node's pod: the first has that of the gang, as a pod that trains alone."""
    return f"{gang}-node-{node}" if node else gang


def as_node(manifest: Manifest, gang: str, node: int, nodes: int) -> Manifest:
    """The pod of one node: where it belongs, as `include.training.node` reads it, and as a scheduler of groups does.

    Args:
        manifest: Of a pod that does the same work alone.
        gang: Names this try of the gang.
    """
    metadata = dict(manifest["metadata"])
    for kind in ("labels", "annotations"):
        values = metadata.get(kind) or {}
        metadata[kind] = {key: _filled(value, gang, nodes) for key, value in values.items()}
    made = {**manifest, "metadata": {**metadata, "name": node_name(gang, node)}}
    if nodes == 1:
        return made
    env = [
        {"name": "PET_NNODES", "value": str(nodes)},
        {"name": "PET_NODE_RANK", "value": str(node)},
        {"name": "PET_RDZV_ID", "value": gang},
        {"name": "PET_LOCAL_ADDR", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    labels = {"windtunnel/gang": gang, "windtunnel/node": str(node)}
    return over(made, {"metadata": {"labels": labels}, "spec": {"containers": [{"name": CONTAINER, "env": env}]}})


def _filled(text: Any, gang: str, nodes: int) -> Any:
    return text.replace("{gang}", gang).replace("{nodes}", str(nodes)) if isinstance(text, str) else text


class GangWatch:
    """Watches all pods of a gang.

    Args:
        watches: The watch over each pod by its name; node 0's, which brings the result, first.
        delete: Tells a pod to end.
        echo_seconds: How long after a bad end the others may go on.
    """

    def __init__(
        self,
        watches: Mapping[str, PodWatch],
        delete: Callable[[str], Awaitable[None]],
        echo_seconds: float = _ECHO_SECONDS,
    ) -> None:
        self._watches, self._delete, self._echo = watches, delete, echo_seconds

    async def run(self) -> dict[str, Watched]:
        """Waits until node 0 ended well, or none is left; how those pods ended of which that is known.

        Raises:
            PodError: The API refuses to tell about one of them.
        """
        tasks = {name: asyncio.create_task(watch.run()) for name, watch in self._watches.items()}
        first, until = next(iter(tasks)), float("inf")
        try:
            while True:
                running = {task for task in tasks.values() if not task.done()}
                left = None if until == float("inf") else max(0.0, until - time.monotonic())
                await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                ends = {name: task.result() for name, task in tasks.items() if task.done()}
                if first in ends and ends[first].end is PodEnd.SUCCEEDED:
                    return ends
                bad = {watched.end for watched in ends.values()} - {PodEnd.SUCCEEDED}
                if bad:
                    until = min(until, time.monotonic() + self._echo)
                if len(ends) == len(tasks) or bad & {PodEnd.PENDING, PodEnd.TIMEOUT} or time.monotonic() >= until:
                    await self._end(ends)
                    return ends
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _end(self, ends: Mapping[str, Watched]) -> None:
        """Pods that ended by themselves stay, to be looked at."""
        for name in self._watches:
            if name not in ends or ends[name].end in (PodEnd.PENDING, PodEnd.TIMEOUT):
                await self._delete(name)
