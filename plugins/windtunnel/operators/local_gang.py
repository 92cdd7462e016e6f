"""Local pods that train one model together, as on a cluster: node 0's is the task's own, and this keeps the others."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from include.failures.classify import Evidence, most_telling
from include.pods.contract import PodLimits, PodPhase, PodSpec, PodStatus
from include.pods.gang import node_name
from include.pods.local import LocalPodRunner
from include.steps.document import RunDocument
from include.training.node import Node

#: After another node's bad end, node 0 ends by itself, unless it waits for one that will never come.
_ECHO_SECONDS = 45.0


class LocalGang:
    """The pods beside node 0's; none where the step is done by one.

    Args:
        name: Of node 0's pod.
    """

    def __init__(self, runner: LocalPodRunner, name: str, document: RunDocument) -> None:
        self._runner, self._name, self._document = runner, name, document
        self._names = [node_name(name, node) for node in range(1, document.nodes)]
        self._bad_since: float | None = None
        self._stopped_first = False

    def start(self, command: Sequence[str], limits: PodLimits) -> dict[str, str]:
        """Starts the others, before node 0: where that one runs, all were started.

        Returns the variables of node 0.
        """
        if not self._names:
            return {}
        self.stop()  # of an earlier try
        gang, nodes = uuid.uuid4().hex, self._document.nodes
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        share = str(max(1, cores // self._document.model_spec.trainer.world))
        shared = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or share}
        for node, name in enumerate(self._names, start=1):
            self._runner.start(
                PodSpec(name, command, env={**Node(node, nodes, gang).to_env(), **shared}, limits=limits)
            )
        return {**Node(0, nodes, gang).to_env(), **shared}

    def check(self) -> None:
        """Stops node 0 where it outlives the bad end of another."""
        if any(self._runner.status(name).phase in (PodPhase.FAILED, PodPhase.LOST) for name in self._names):
            self._bad_since = self._bad_since or time.monotonic()
            if time.monotonic() - self._bad_since > _ECHO_SECONDS and not self._stopped_first:
                self._stopped_first = True
                self._runner.stop(self._name)

    def stop(self) -> None:
        """Ends the others."""
        for name in self._names:
            self._runner.stop(name)

    def telling(self, first: Evidence, usage: dict[str, Any] | None) -> tuple[Evidence, dict[str, Any] | None]:
        """What explains the end of all, given node 0's, and what they used together."""
        if not self._names:
            return first, usage
        statuses = {name: self._runner.status(name) for name in self._names}
        others = [self._evidence(name, status) for name, status in statuses.items()]
        used = [status.usage for status in statuses.values() if status.usage is not None]
        if usage is not None:
            usage = {**usage, "seconds": usage["seconds"] + sum(each.seconds for each in used)}
            if usage["cpu_seconds"] is not None:
                usage["cpu_seconds"] += sum(each.cpu_seconds or 0.0 for each in used)
        first = replace(first, deleted=first.deleted and not self._stopped_first)
        return most_telling([first, *others]), usage

    def _evidence(self, name: str, status: PodStatus) -> Evidence:
        return Evidence(
            exit_code=status.exit_code,
            log_tail=self._runner.tail(name),
            lost=status.phase is PodPhase.LOST,
            deleted=status.stopped,
            oom_kills=status.oom_kills,
        )
