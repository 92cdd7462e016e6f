"""Gateways on Kubernetes: a Deployment and what belongs to it, applied server-side under a field manager of our own.

All gateways follow the ledger by themselves, so a change of traffic needs nothing of Kubernetes; what is asked of it
here is who the gateways are. A release waits for every one that clients are led to, and adds up what they counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from include.errors import UserError
from include.release.routing import RoutingTable
from include.serving.route_source import LedgerRoutes
from include.settings import Settings
from include.spec.rollout import ReleaseSpec
from include.spec.serving import ServingSpec
from include.targets import asking, manifest, trouble
from include.targets.api import KubernetesApi, Record
from include.targets.contract import Deployed, GatewayError, Replica, TargetError, TargetPhase, TargetStatus
from include.targets.gateway_pod import CONTAINER, TARGET
from include.targets.rollout import Rollout, wait
from include.targets.routes import complaints, generations, models

_POLL_SECONDS = 1.0
_SCALER = "HorizontalPodAutoscaler"
#: All kinds that a target may consist of, in all versions that it may have; taken away in this order.
KINDS = (
    ("autoscaling/v2", _SCALER),
    ("autoscaling/v2beta2", _SCALER),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("policy/v1beta1", "PodDisruptionBudget"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "ServiceAccount"),
)


class KubernetesTarget:
    """See the module; the contract is `ServingTarget`'s.

    Args:
        progress: Is told what a roll-out waits for, whenever that changes.
    """

    def __init__(
        self,
        settings: Settings,
        spec: ServingSpec,
        api: KubernetesApi,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings, self._spec, self._api, self._progress = settings, spec, api, progress

    def check(self, release: ReleaseSpec) -> None:
        """The gateway can do all that a stage may ask for."""

    def deploy(self) -> Deployed:
        began = time.monotonic()
        plan = manifest.plan(self._spec, self._api.knows, self._held())
        changed: list[str] = []
        taken: list[str] = []
        for item in plan.objects:
            done = self._api.apply(item)
            if done.changed:
                changed.append(f"{item['kind']} {item['metadata']['name']}")
            taken += done.taken_back
        changed += self._prune(plan)
        self._set_replicas()
        wait(Rollout(self._api, self._spec, self._progress), traffic=self._has_traffic())
        return Deployed(tuple(changed), tuple(taken), plan.left_out, time.monotonic() - began)

    def status(self) -> TargetStatus:
        where, found = f"{self._spec.namespace}/{self._spec.name}", self._deployment()
        if found is None:
            return TargetStatus("kubernetes", where, TargetPhase.ABSENT)
        pods = self._pods()
        seen = [self._look(pod, found) for pod in pods]
        replicas = tuple(replica for replica, _ in seen)
        routes = [routes for _, routes in seen if routes]
        why = self._why(found, replicas, routes)
        wanted, floor, ceiling = self._wanted(found)
        return TargetStatus(
            "kubernetes",
            where,
            _phase(found, replicas, wanted, why),
            image=_image(found),
            wanted=wanted,
            floor=floor,
            ceiling=ceiling,
            since=_since(found),
            replicas=replicas,
            why=tuple(why),
            left_out=manifest.plan(self._spec, self._api.knows).left_out,
            models=models(routes),
        )

    def scale(self, replicas: int | None) -> TargetStatus:
        if replicas is not None and replicas < 1:
            raise UserError("fewer than one gateway cannot serve", hint="`windtunnel target undeploy` takes it away")
        if self._deployment() is None:
            raise UserError("nothing is deployed", where=self._where(), hint="`windtunnel target deploy` does it")
        held = None if replicas is None else str(replicas)
        note = {"metadata": {"annotations": {manifest.HELD: held}}}
        self._api.patch("apps/v1", "Deployment", self._spec.name, note)
        floor, ceiling = manifest.bounds(self._spec, replicas)
        if (scaler := self._scaler()) is not None:
            changes = {**note, "spec": {"minReplicas": floor, "maxReplicas": ceiling}}
            self._api.patch(scaler["apiVersion"], _SCALER, self._spec.name, changes)
        self._set_replicas()
        return self.status()

    def undeploy(self) -> bool:
        found = [
            (version, kind, item["metadata"]["name"])
            for version, kind in KINDS
            for item in self._api.find(version, kind, {TARGET: self._spec.name})
        ]
        gone = [self._api.delete(*item) for item in found]
        deadline = time.monotonic() + self._spec.deadline_seconds
        while pods := self._api.find("v1", "Pod", {TARGET: self._spec.name}):
            if time.monotonic() > deadline:
                names = ", ".join(pod["metadata"]["name"] for pod in pods)
                raise TargetError(
                    f"gateways are still ending after {self._spec.deadline_seconds:g} s: {names}", where=self._where()
                )
            self._progress(f"{len(pods)} gateways are ending")
            time.sleep(_POLL_SECONDS)
        return any(gone)

    def follow(
        self, family: str, generation: int, table: RoutingTable | None = None, timeout: float = asking.LOAD_SECONDS
    ) -> float:
        return asking.wait_for_generation(self._addresses, family, generation, table=table, timeout=timeout)

    def stats(self, family: str, generation: int) -> dict[str, Any]:
        return asking.stats(self._addresses(), family, generation)

    def _addresses(self) -> list[str]:
        """Of the gateways that clients are led to."""
        return [self._url(pod) for pod in self._pods() if trouble.ready(pod)]

    def _url(self, pod: Record) -> str:
        host = pod["status"].get("podIP") or ""
        return f"http://{f'[{host}]' if ':' in host else host}:{self._spec.port}"

    def _pods(self) -> list[Record]:
        pods = self._api.find("v1", "Pod", {TARGET: self._spec.name})
        return sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def _deployment(self) -> Record | None:
        return self._api.get("apps/v1", "Deployment", self._spec.name)

    def _scaler(self) -> Record | None:
        for version, kind in KINDS[:2]:
            if self._api.knows(version, kind):
                return self._api.get(version, kind, self._spec.name)
        return None

    def _held(self) -> int | None:
        """How many gateways a person asked for."""
        notes = ((self._deployment() or {}).get("metadata") or {}).get("annotations") or {}
        return int(notes[manifest.HELD]) if manifest.HELD in notes else None

    def _set_replicas(self) -> None:
        """As many as there must be; more than that is the autoscaler's affair."""
        found = self._deployment()
        floor, ceiling = manifest.bounds(self._spec, self._held())
        now = int(found["spec"].get("replicas", 1)) if found else floor
        wanted = floor if self._scaler() is None else min(max(now, floor), ceiling)
        if wanted != now:
            self._api.patch("apps/v1", "Deployment", self._spec.name, {"spec": {"replicas": wanted}})

    def _prune(self, plan: manifest.Plan) -> list[str]:
        """Takes away what an earlier spec had and this one has not."""
        kept = {(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in plan.objects}
        seen = {(kind, name) for _, kind, name in kept}
        gone = []
        for version, kind in KINDS:
            for item in self._api.find(version, kind, {TARGET: self._spec.name}):
                name = item["metadata"]["name"]
                if (kind, name) not in seen and self._api.delete(version, kind, name):
                    gone.append(f"{kind} {name} (taken away)")
        return gone

    def _has_traffic(self) -> bool:
        return bool(LedgerRoutes(self._settings.database_url).newest())

    def _wanted(self, found: Record) -> tuple[int, int | None, int | None]:
        scaler = self._scaler()
        wanted = int(found["spec"].get("replicas", 1))
        return (wanted, None, None) if scaler is None else (
            wanted, scaler["spec"].get("minReplicas", 1), scaler["spec"]["maxReplicas"]
        )  # fmt: skip

    def _look(self, pod: Record, found: Record) -> tuple[Replica, dict[str, Any]]:
        routes: dict[str, Any] = {}
        if trouble.begun(pod, CONTAINER):
            with contextlib.suppress(GatewayError):
                routes = asking.ask(self._url(pod), "/v1/routes", seconds=2.0)
        ready, status = trouble.ready(pod), pod["status"]
        entry: Record = next(iter(status.get("containerStatuses") or []), {})
        current = (found["spec"]["template"]["metadata"].get("labels") or {}).get(manifest.REVISION)
        running = (entry.get("state") or {}).get("running") or {}
        replica = Replica(
            pod["metadata"]["name"],
            ready,
            address=self._url(pod) if status.get("podIP") else "",
            image=entry.get("imageID") or entry.get("image") or "",
            current=pod["metadata"]["labels"].get(manifest.REVISION) == current,
            since=_time(running.get("startedAt")),
            restarts=trouble.restarts(pod, CONTAINER),
            generations=generations(routes),
            why="" if ready else self._reason(pod, routes),
        )
        return replica, routes

    def _reason(self, pod: Record, routes: dict[str, Any]) -> str:
        if pod["metadata"].get("deletionTimestamp"):
            return "it is ending"
        if found := Rollout(self._api, self._spec).trouble(pod):
            return str(found)
        if said := complaints(routes):
            return said[0]
        if trouble.begun(pod, CONTAINER) and not self._has_traffic():
            return "nothing serves before the first release"
        return "it is starting"

    def _why(self, found: Record, replicas: tuple[Replica, ...], routes: list[dict[str, Any]]) -> list[str]:
        said = [str(blocked)] if (blocked := trouble.of_deployment(found)) else []
        said += [f"{replica.name}: {replica.why}" for replica in replicas if replica.why]
        return said + sorted({sentence for one in routes for sentence in complaints(one)})

    def _where(self) -> str:
        return f"namespace {self._spec.namespace}, {self._spec.name}"


def _phase(found: Record, replicas: tuple[Replica, ...], wanted: int, why: list[str]) -> TargetPhase:
    serving = [replica for replica in replicas if replica.ready]
    done = found["status"].get("observedGeneration", 0) >= found["metadata"]["generation"]
    if done and len(serving) == len(replicas) == wanted and all(replica.current for replica in replicas) and not why:
        return TargetPhase.READY
    conditions = {item["type"]: item for item in found["status"].get("conditions") or []}
    moving = conditions.get("Progressing", {}).get("status") == "True"
    troubled = any(sentence for sentence in why if "it is" not in sentence and "nothing serves" not in sentence)
    return TargetPhase.PROGRESSING if moving and not troubled else TargetPhase.DEGRADED


def _image(found: Record) -> str:
    containers = found["spec"]["template"]["spec"]["containers"]
    return next((str(item["image"]) for item in containers if item["name"] == CONTAINER), "")


def _since(found: Record) -> datetime | None:
    conditions = found["status"].get("conditions") or []
    return next((_time(item["lastTransitionTime"]) for item in conditions if item["type"] == "Available"), None)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
