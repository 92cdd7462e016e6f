"""KServe as a serving target: one InferenceService per family, whose traffic KServe splits.

Its predictors are gateways that serve one model each, with the generation and the role that the ledger gives it, so
that what they count is judged as anywhere else. KServe sends a unit to either variant at random, mirrors nothing and
splits by whole percents: `check` refuses what it cannot do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from include.errors import UserError
from include.release.ledger import Ledger
from include.release.routing import RoutingTable
from include.serving.kept_counts import read_counts
from include.serving.route_source import ONLY_VARIABLE, LedgerRoutes, part_of
from include.serving.tally import GenerationCounts
from include.settings import Settings
from include.spec.rollout import ReleaseSpec
from include.spec.serving import ServingSpec
from include.store.database import open_database
from include.store.objects import open_store
from include.targets import asking, inference_service, manifest, trouble
from include.targets.api import KubernetesApi, Record
from include.targets.asking import NoAnswer
from include.targets.contract import Deployed, GatewayError, Replica, TargetError, TargetPhase, TargetStatus
from include.targets.gateway_pod import TARGET
from include.targets.inference_service import API, CONTAINER, KIND, State
from include.targets.manifest import HELD
from include.targets.routes import complaints, generations, models

_POLL_SECONDS = 1.0
_SERVICE = "serving.kserve.io/inferenceservice"  # KServe's label of a predictor's pods
_ROUNDS = 6


class KServeTarget:
    """See the module; the contract is `ServingTarget`'s."""

    def __init__(
        self,
        settings: Settings,
        spec: ServingSpec,
        api: KubernetesApi,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings, self._spec, self._api, self._progress = settings, spec, api, progress

    def check(self, release: ReleaseSpec) -> None:
        for stage in release.stages:
            if stage.shadow:
                raise _cannot(f"stage {stage.name}: KServe mirrors no traffic to a shadow", "leave the stage out")
            if inference_service.whole_percent(stage.traffic) is None:
                raise _cannot(f"stage {stage.name}: KServe splits by whole percents", f"not {stage.traffic:g}")

    def deploy(self) -> Deployed:
        began = time.monotonic()
        if not self._api.knows(API, KIND):
            raise UserError(
                "KServe is not installed in the cluster",
                where=f"namespace {self._spec.namespace}",
                hint="install it, or take target `kubernetes`",
            )
        done = self._api.apply(manifest.account(self._spec))
        changed = [f"ServiceAccount {self._spec.name}"] if done.changed else []
        for family in LedgerRoutes(self._settings.database_url).newest():
            route = Ledger(open_database(self._settings.database_url)).route(family)
            if route is not None and self._move(family, route.table, self._spec.deadline_seconds):
                changed.append(f"{KIND} {inference_service.name_of(self._spec, family)}")
        return Deployed(tuple(changed), done.taken_back, (), time.monotonic() - began)

    def status(self) -> TargetStatus:
        where, found = f"{self._spec.namespace}/{self._spec.name}", self._services()
        if not found and self._api.get("v1", "ServiceAccount", self._spec.name) is None:
            return TargetStatus("kserve", where, TargetPhase.ABSENT)
        why = [f"{item['metadata']['name']}: {said}" for item in found if (said := inference_service.trouble(item))]
        seen = [self._look(pod) for item in found for pod in self._pods(item)]
        why += sorted({sentence for _, shown in seen for sentence in complaints(shown)})
        replicas, routes = tuple(replica for replica, _ in seen), [shown for _, shown in seen if shown]
        floor, ceiling = manifest.bounds(self._spec, self._held(found))
        return TargetStatus(
            "kserve",
            where,
            TargetPhase.DEGRADED if why else TargetPhase.READY,
            image=self._spec.image or "",
            wanted=floor * len(found),
            floor=floor,
            ceiling=ceiling,
            since=max(filter(None, (_since(item) for item in found)), default=None),
            replicas=replicas,
            why=tuple(why),
            models=models(routes),
        )

    def scale(self, replicas: int | None) -> TargetStatus:
        if replicas is not None and replicas < 1:
            raise UserError("fewer than one gateway cannot serve", hint="`windtunnel target undeploy` takes it away")
        found = self._services()
        if not found:
            raise UserError("nothing is deployed", where=f"namespace {self._spec.namespace}", hint="release something")
        floor, ceiling = manifest.bounds(self._spec, replicas)
        note = {"annotations": {HELD: None if replicas is None else str(replicas)}}
        for item in found:
            bounds = {"predictor": {"minReplicas": floor, "maxReplicas": ceiling}}
            self._api.patch(API, KIND, item["metadata"]["name"], {"metadata": note, "spec": bounds})
        return self.status()

    def undeploy(self) -> bool:
        found = self._services()
        gone = [self._api.delete(API, KIND, item["metadata"]["name"]) for item in found]
        gone.append(self._api.delete("v1", "ServiceAccount", self._spec.name))
        deadline = time.monotonic() + self._spec.deadline_seconds
        while pods := [pod for item in found for pod in self._pods(item)]:
            if time.monotonic() > deadline:
                raise TargetError(f"{len(pods)} gateways are still ending", where=f"namespace {self._spec.namespace}")
            time.sleep(_POLL_SECONDS)
        return any(gone)

    def follow(
        self, family: str, generation: int, table: RoutingTable | None = None, timeout: float = asking.LOAD_SECONDS
    ) -> float:
        began = time.monotonic()
        route = Ledger(open_database(self._settings.database_url)).route(family)
        if route is None:
            raise GatewayError(f"nothing serves of {family} by the ledger", where=family)
        self._move(family, route.table, timeout)
        for digest in self._sharing(family, route.table):
            wanted = part_of(table, digest) if table and route.generation == generation else None
            left = max(1.0, timeout - (time.monotonic() - began))
            asking.wait_for_generation(
                lambda: self._addresses(family, digest),  # noqa: B023 - it is called here
                family,
                route.generation,
                table=wanted,
                timeout=left,
            )
        return time.monotonic() - began

    def stats(self, family: str, generation: int) -> dict[str, Any]:
        """By what the gateways wrote down: each knows of one model only, and those before may be gone."""
        route = Ledger(open_database(self._settings.database_url)).route(family, generation)
        parts = read_counts(open_store(self._settings.store_url), family, generation)
        if route is None or not parts:
            raise GatewayError(f"generation {generation} of {family} was not served", where=family)
        total = GenerationCounts()
        for counts in parts.values():
            total.merge(counts)
        return {"family": family, "generation": generation, **total.to_json(route.table)}

    def _move(self, family: str, table: RoutingTable, timeout: float) -> bool:
        """Brings the family's service to `table`, step by step; returns whether anything changed."""
        if table.arms:
            raise _cannot("KServe splits traffic between two models, an experiment has more", "take `kubernetes`")
        if inference_service.whole_percent(table.challenger_share) is None:
            raise _cannot("KServe splits by whole percents", f"not {table.challenger_share:g}")
        name, deadline = inference_service.name_of(self._spec, family), time.monotonic() + timeout
        changed = False
        for _ in range(_ROUNDS):
            found = self._api.get(API, KIND, name)
            now = inference_service.read(found) if found else None
            ready = found is not None and not inference_service.trouble(found)
            wanted = inference_service.step(table, now, ready)
            made = inference_service.inference_service(self._spec, family, wanted, self._held([found] if found else []))
            changed |= self._api.apply(made).changed
            if wanted == now and ready:
                return changed
            self._wait(family, name, wanted, deadline)
        raise TargetError(f"{KIND} {name} does not come to rest", where=f"namespace {self._spec.namespace}")

    def _wait(self, family: str, name: str, wanted: State, deadline: float) -> None:
        """Until the service is ready."""
        while said := inference_service.trouble(self._api.get(API, KIND, name) or {"metadata": {}}):
            self._progress(said)
            self._refuse_failed(family, name, wanted.model)
            if time.monotonic() > deadline:
                raise GatewayError(
                    f"{KIND} {name}: {said}",
                    where=f"namespace {self._spec.namespace}",
                    hint="what had the traffic before keeps it; `kubectl describe inferenceservice` tells more",
                )
            time.sleep(_POLL_SECONDS)

    def _refuse_failed(self, family: str, name: str, digest: str) -> None:
        """Raises `GatewayError` where a gateway says that it cannot load the model."""
        for pod in self._api.find("v1", "Pod", {_SERVICE: name}):
            if _model(pod) != digest or not trouble.begun(pod, CONTAINER):
                continue
            with contextlib.suppress(NoAnswer):
                asking.refuse_failed(self._url(pod), family, asking.ask(self._url(pod), "/v1/routes").get(family) or {})

    def _sharing(self, family: str, table: RoutingTable) -> list[str]:
        """The models that clients are led to."""
        shares = table.shares
        return [variant.digest for variant in table.variants if shares[variant.version] > 0]

    def _services(self) -> list[Record]:
        return self._api.find(API, KIND, {TARGET: self._spec.name})

    def _pods(self, service: Record) -> list[Record]:
        return self._api.find("v1", "Pod", {_SERVICE: service["metadata"]["name"]})

    def _addresses(self, family: str, digest: str) -> list[str]:
        """Of the ready gateways that serve this model."""
        found = self._api.get(API, KIND, inference_service.name_of(self._spec, family))
        pods = self._pods(found) if found else []
        return [self._url(pod) for pod in pods if _model(pod) == digest and trouble.ready(pod)]

    def _url(self, pod: Record) -> str:
        host = pod["status"].get("podIP") or ""
        return f"http://{f'[{host}]' if ':' in host else host}:{self._spec.port}"

    def _held(self, found: Iterable[Record]) -> int | None:
        notes = [item["metadata"].get("annotations") or {} for item in found]
        return next((int(note[HELD]) for note in notes if HELD in note), None)

    def _look(self, pod: Record) -> tuple[Replica, dict[str, Any]]:
        routes: dict[str, Any] = {}
        ready = trouble.ready(pod)
        if trouble.begun(pod, CONTAINER):
            with contextlib.suppress(GatewayError):
                routes = asking.ask(self._url(pod), "/v1/routes", seconds=2.0)
        said = trouble.of_pod(pod, CONTAINER)
        entries = pod["status"].get("containerStatuses") or []
        entry: Record = next((item for item in entries if item["name"] == CONTAINER), {})
        started = ((entry.get("state") or {}).get("running") or {}).get("startedAt")
        return Replica(
            pod["metadata"]["name"],
            ready,
            address=self._url(pod) if pod["status"].get("podIP") else "",
            image=entry.get("imageID") or entry.get("image") or "",
            since=datetime.fromisoformat(started) if started else None,
            restarts=trouble.restarts(pod, CONTAINER),
            generations=generations(routes),
            why="" if ready else str(said or "it is starting, or ending"),
        ), routes


def _model(pod: Record) -> str:
    """The digest of the model that a predictor's pod serves."""
    for container in pod["spec"]["containers"]:
        for variable in container.get("env") or []:
            if variable["name"] == ONLY_VARIABLE:
                return str(variable["value"]).partition("@")[2]
    return ""


def _since(service: Record) -> datetime | None:
    conditions = (service.get("status") or {}).get("conditions") or []
    found = next((item.get("lastTransitionTime") for item in conditions if item["type"] == "Ready"), None)
    return datetime.fromisoformat(found) if found else None


def _cannot(what: str, hint: str) -> UserError:
    return UserError(what, where="WINDTUNNEL_SERVING_SPEC", hint=hint)
