"""Waits until the gateways of a Deployment are what they should be, or says why they will not be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from include.failures.pod_status import deleted
from include.spec.serving import ServingSpec
from include.targets import manifest, trouble
from include.targets.api import KubernetesApi, Record
from include.targets.contract import TargetError
from include.targets.gateway_pod import CONTAINER, TARGET
from include.targets.trouble import Trouble

_POLL_SECONDS = 1.0
_KEPT = "the gateways before go on serving"


@dataclass(frozen=True)
class View:
    """What is there at one moment.

    Attributes:
        old: Pods of an earlier kind that still run.
        new: Those of the newest kind.
    """

    deployment: Record
    old: list[Record]
    new: list[Record]


class Rollout:
    """Looks at the roll-out of a target.

    Args:
        progress: Is told what is waited for, whenever that changes.
    """

    def __init__(self, api: KubernetesApi, spec: ServingSpec, progress: Callable[[str], None] = lambda _: None) -> None:
        self.spec, self.progress = spec, progress
        self._api = api

    def look(self) -> View:
        """The Deployment and its pods now.

        Raises:
            TargetError: Somebody took the Deployment away.
        """
        found = self._api.get("apps/v1", "Deployment", self.spec.name)
        if found is None:
            raise TargetError(
                f"the Deployment {self.spec.name} was taken away meanwhile",
                where=f"namespace {self.spec.namespace}",
                hint="somebody undeployed it: deploy again if that was not meant",
            )
        revision = found["spec"]["template"]["metadata"]["labels"][manifest.REVISION]
        pods = self._api.find("v1", "Pod", {TARGET: self.spec.name})
        new = [pod for pod in pods if pod["metadata"]["labels"].get(manifest.REVISION) == revision]
        return View(found, [pod for pod in pods if pod not in new], new)

    def trouble(self, pod: Record) -> Trouble | None:
        """Why this pod is not ready, with the line of its log that tells."""
        name, state, log = pod["metadata"]["name"], _state(pod) or {}, list[str]()
        if trouble.crashed(pod, CONTAINER):
            log = self._api.tail(name, CONTAINER, previous="terminated" not in state)
        elif "running" in state and not trouble.begun(pod, CONTAINER):
            log = self._api.tail(name, CONTAINER, previous=False)
        return trouble.of_pod(pod, CONTAINER, log)


def wait(
    rollout: Rollout,
    *,
    traffic: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Until all gateways are of the newest kind and serve.

    Args:
        traffic: Something serves by the ledger. Where nothing does yet, a gateway that runs is as ready as it can be.

    Raises:
        TargetError: They do not come up; `reason` is image, crash loop, cannot start, unschedulable, quota, refused or
            deadline.
    """
    spec, began = rollout.spec, clock()
    stuck_since: float | None = None
    told = ""
    while True:
        view = rollout.look()
        if _done(view, traffic):
            return
        found = _worst(rollout, view)
        waiting = str(found) if found else _numbers(view, traffic)
        if waiting != told:
            rollout.progress(waiting)
            told = waiting
        now = clock()
        stuck_since = (stuck_since if stuck_since is not None else now) if found and found.stuck else None
        if found and stuck_since is not None and now - stuck_since >= spec.stuck_seconds:
            raise _failure(spec, found.kind, str(found), found.hint)
        if now - began >= spec.deadline_seconds:
            said = f"not done after {spec.deadline_seconds:g} s: {waiting}"
            hint = found.hint if found else "look at the gateways' logs; deploy again to go on waiting"
            raise _failure(spec, found.kind if found else "deadline", said, hint)
        sleep(_POLL_SECONDS)


def _failure(spec: ServingSpec, reason: str, said: str, hint: str) -> TargetError:
    return TargetError(
        f"the gateways do not come up: {said}; {_KEPT}",
        where=f"namespace {spec.namespace}, Deployment {spec.name}",
        hint=hint,
        reason=reason,
    )


def _done(view: View, traffic: bool) -> bool:
    status, wanted = view.deployment.get("status") or {}, int(view.deployment["spec"].get("replicas", 1))
    if status.get("observedGeneration", 0) < view.deployment["metadata"]["generation"]:
        return False
    if any(not deleted(pod) for pod in view.old):
        return False
    return sum(_serves(pod, traffic) for pod in view.new) >= wanted


def _serves(pod: Record, traffic: bool) -> bool:
    if deleted(pod):
        return False
    return trouble.ready(pod) or (not traffic and trouble.begun(pod, CONTAINER))


def _worst(rollout: Rollout, view: View) -> Trouble | None:
    """What is stuck, before what may mend itself."""
    found = [blocked] if (blocked := trouble.of_deployment(view.deployment)) else []
    for pod in view.new:
        if not trouble.ready(pod) and not deleted(pod) and (said := rollout.trouble(pod)):
            found.append(said)
    return next((each for each in found if each.stuck), found[0] if found else None)


def _numbers(view: View, traffic: bool) -> str:
    serving = sum(_serves(pod, traffic) for pod in view.new)
    wanted = int(view.deployment["spec"].get("replicas", 1))
    rest = f", {len(view.old)} of the old kind go on" if view.old else ""
    return f"{serving} of {wanted} gateways are ready{rest}"


def _state(pod: Record) -> dict[str, Any] | None:
    for entry in (pod.get("status") or {}).get("containerStatuses") or []:
        if entry.get("name") == CONTAINER:
            return dict(entry.get("state") or {})
    return None
