"""A cluster that is played: the Kubernetes API over a socket, and pods that are gateway processes of this machine.

It stores what is applied with the owners of its fields, as server-side apply has it, and plays the controllers of
Deployments, autoscalers and KServe's services as far as a serving target sees them. Every pod has a loopback address of
its own, so that all of them listen on one port. A real cluster has the last word (tests/kubernetes).
"""

from __future__ import annotations

import copy
import http.server
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from include.settings import PROJECT_ROOT

Record = dict[str, Any]
Key = tuple[str, str, str]  # apiVersion, kind, name

KINDS = {
    "v1": {"Pod": "pods", "Service": "services", "ServiceAccount": "serviceaccounts", "Event": "events"},
    "apps/v1": {"Deployment": "deployments"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "monitoring.coreos.com/v1": {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"},
    "serving.kserve.io/v1beta1": {"InferenceService": "inferenceservices"},
}
_ADDRESSES = itertools.count(2)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class PlayedPod:
    """A pod; its process is None where it does not start."""

    record: Record
    process: subprocess.Popen[bytes] | None
    log: Path
    revision: str
    leaving: float = 0.0


@dataclass
class PlayedCluster:
    """See the module.

    Attributes:
        environment: What the secret holds.
        kinds: What the cluster knows; may be changed.
        images: Those that can be pulled.
        refuse: (method, kind) -> status and message that the API answers with.
        quota: At most so many pods.
        asked: Method and path of every request, in order.
    """

    folder: Path
    environment: Mapping[str, str]
    namespace: str = "windtunnel"
    kinds: dict[str, dict[str, str]] = field(default_factory=lambda: copy.deepcopy(KINDS))
    images: set[str] = field(default_factory=set)
    refuse: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    quota: int = 100
    asked: list[str] = field(default_factory=list)
    objects: dict[Key, Record] = field(default_factory=dict)
    owners: dict[Key, dict[tuple[Any, ...], str]] = field(default_factory=dict)
    pods: list[PlayedPod] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self._stop = threading.Event()
        self.net = f"127.{os.getpid() % 200 + 20}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @contextmanager
    def running(self) -> Iterator[PlayedCluster]:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        threads = [threading.Thread(target=work, daemon=True) for work in (server.serve_forever, self._control)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            threads[1].join()
            server.shutdown()
            server.server_close()
            for pod in self.pods:
                _end(pod, kill=True)

    def kubeconfig(self) -> Path:
        path = self.folder / "kubeconfig"
        record = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "played",
            "clusters": [{"name": "played", "cluster": {"server": self.url}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "played", "context": {"cluster": "played", "user": "nobody"}}],
        }
        path.write_text(json.dumps(record))
        return path

    def addresses(self) -> dict[str, float]:
        """Where clients are led to: ready pods, by what KServe's services say of their revisions."""
        with self.lock:
            shares = {}
            for (_, kind, _), found in self.objects.items():
                if kind == "InferenceService":
                    shares |= {
                        item["revisionName"]: item["percent"] / 100 for item in found["status"].get("traffic", [])
                    }
            ready = [pod for pod in self.pods if _ready(pod) and not pod.leaving]
            weights = {
                f"http://{pod.record['status']['podIP']}:{self.port}": shares.get(pod.revision, 1.0) for pod in ready
            }
            return {url: weight for url, weight in weights.items() if weight}

    # -- what the API does

    def apply(self, key: Key, body: Record, manager: str, force: bool) -> tuple[int, Record]:
        """Server-side apply: fields have owners, and what an owner applies no more goes."""
        owners, found = self.owners.setdefault(key, {}), self.objects.get(key)
        given = {path: value for path, value in _leaves(body) if path[0] not in ("apiVersion", "kind")}
        taken = [
            path for path, value in given.items()
            if owners.get(path, manager) != manager and found and _at(found, path) != value
        ]  # fmt: skip
        if taken and not force:
            causes = [
                {"field": ".".join(map(str, path)), "message": f"conflict with {owners[path]!r}"} for path in taken
            ]
            return 409, {"message": "conflict", "details": {"causes": causes}}
        merged = copy.deepcopy(found) if found else _new(key, self.namespace)
        for path in [path for path, owner in owners.items() if owner == manager and path not in given]:
            _put(merged, path, None)
            del owners[path]
        for path, value in given.items():
            _put(merged, path, value)
            owners[path] = manager
        self._store(key, merged)
        return 200 if found else 201, merged

    def merge(self, key: Key, body: Record, manager: str) -> tuple[int, Record]:
        """Merge patch: null takes away."""
        if key not in self.objects:
            return 404, {"message": f"{key[2]} not found"}
        merged = copy.deepcopy(self.objects[key])
        for path, value in _leaves(body):
            _put(merged, path, value)
            self.owners.setdefault(key, {})[path] = manager
        self._store(key, merged)
        return 200, merged

    def _store(self, key: Key, record: Record) -> None:
        before = self.objects.get(key, {})
        if before.get("spec") != record.get("spec"):
            record["metadata"]["generation"] = before.get("metadata", {}).get("generation", 0) + 1
        self.objects[key] = record

    # -- what the controllers and the kubelet do

    def _control(self) -> None:
        while not self._stop.wait(0.1):
            with self.lock:
                self._scale()
                for (_, kind, name), found in list(self.objects.items()):
                    if kind == "Deployment":
                        self._deployment(name, found)
                    elif kind == "InferenceService":
                        self._service(name, found)
                self._orphans()
                for pod in list(self.pods):
                    self._probe(pod)

    def _scale(self) -> None:
        for (_, kind, name), found in self.objects.items():
            target = self.objects.get(("apps/v1", "Deployment", name))
            if kind == "HorizontalPodAutoscaler" and target:
                bounds = found["spec"]["minReplicas"], found["spec"]["maxReplicas"]
                wanted = min(max(target["spec"].get("replicas", 1), bounds[0]), bounds[1])
                target["spec"]["replicas"] = wanted

    def _deployment(self, name: str, found: Record) -> None:
        template, wanted = found["spec"]["template"], found["spec"].get("replicas", 1)
        revision = f"{name}-{template['metadata']['labels']['windtunnel/revision']}"
        mine = [pod for pod in self.pods if pod.record["metadata"]["labels"].get("windtunnel/target") == name]
        self._converge([pod for pod in mine if not pod.leaving], revision, wanted, template, name, found)
        conditions = found.setdefault("status", {}).setdefault("conditions", [])
        blocked = len(self.pods) >= self.quota and sum(pod.revision == revision for pod in mine) < wanted
        conditions[:] = [
            {"type": "Available", "status": "True", "lastTransitionTime": now()},
            {"type": "Progressing", "status": "True"},
        ]
        if blocked:
            said = "pods is forbidden: exceeded quota: small"
            conditions.append({"type": "ReplicaFailure", "status": "True", "message": said})
        found["status"]["observedGeneration"] = found["metadata"]["generation"]

    def _converge(
        self, pods: list[PlayedPod], revision: str, wanted: int, template: Record, name: str, owner: Record
    ) -> None:
        new, old = [pod for pod in pods if pod.revision == revision], [pod for pod in pods if pod.revision != revision]
        room = min(wanted - len(new), wanted + 1 - len(pods)) if old else wanted - len(new)
        for _ in range(max(0, min(room, self.quota - len(self.pods)))):
            self._start(revision, template, name)
        ready = sum(_ready(pod) for pod in new)
        spare = [pod for pod in old if not _ready(pod)] or old[: max(0, ready + len(old) - wanted)]
        for pod in (spare[:1] if ready or any(not _ready(pod) for pod in old) else []) + new[wanted:]:
            pod.leaving = time.monotonic()
            pod.record["metadata"]["deletionTimestamp"] = now()

    def _service(self, name: str, found: Record) -> None:
        """KServe and Knative: a revision for every change of the predictor, traffic to those that are ready."""
        predictor, status = found["spec"]["predictor"], found.setdefault("status", {})
        spec = {
            key: value
            for key, value in predictor.items()
            if key not in ("canaryTrafficPercent", "minReplicas", "maxReplicas")
        }
        known: list[Record] = status.setdefault("played", [])
        if not known or known[-1]["spec"] != spec:
            known.append({"name": f"{name}-predictor-{len(known) + 1:05}", "spec": spec, "ready": False})
        for revision in known:
            mine = [pod for pod in self.pods if pod.revision == revision["name"] and not pod.leaving]
            routed = [item["revisionName"] for item in status.get("traffic", []) if item["percent"]]
            if revision is not known[-1] and revision["name"] not in routed:
                for pod in mine:
                    pod.leaving = time.monotonic()
                continue
            template = {"metadata": {"labels": {"serving.kserve.io/inferenceservice": name}}, "spec": spec}
            for _ in range(predictor["minReplicas"] - len(mine)):
                self._start(revision["name"], template, revision["name"])
            for pod in mine[max(predictor["minReplicas"], 1) :]:
                pod.leaving = time.monotonic()
            revision["ready"] = sum(_ready(pod) for pod in mine) >= predictor["minReplicas"]
        latest, percent = known[-1], predictor.get("canaryTrafficPercent")
        before = status.get("rolledOut")
        if latest["ready"]:
            split = percent is not None and before not in (None, latest["name"])
            status["traffic"] = [{"revisionName": latest["name"], "percent": percent if split else 100}]
            if split:
                status["traffic"].append({"revisionName": before, "percent": 100 - percent})
            else:
                status["rolledOut"] = latest["name"]
            status["latestReady"] = latest["name"]
        status["components"] = {
            "predictor": {"latestCreatedRevision": latest["name"], "latestReadyRevision": status.get("latestReady")}
        }
        status["conditions"] = [
            {"type": "Ready", "status": str(latest["ready"]), "lastTransitionTime": now(), "message": "played"}
        ]
        status["observedGeneration"] = found["metadata"]["generation"]

    def _start(self, revision: str, template: Record, name: str) -> None:
        (container,) = template["spec"]["containers"]
        label, address = uuid.uuid4().hex[:6], f"{self.net}.{next(_ADDRESSES) // 250}.{next(_ADDRESSES) % 250 + 1}"
        record = {
            "metadata": {
                "name": f"{name}-{label}",
                "labels": dict(template["metadata"]["labels"]),
                "creationTimestamp": datetime.now(UTC).isoformat(),
            },
            "spec": {"containers": [container]},
            "status": {"podIP": address, "phase": "Running", "containerStatuses": [{"name": container["name"]}]},
        }
        log, process = self.folder / f"{label}.log", None
        if container["image"] in self.images:
            arguments = [address if part == "0.0.0.0" else part for part in container["args"]]
            given = {item["name"]: item["value"] for item in container["env"]}
            base = {key: value for key, value in os.environ.items() if not key.startswith("WINDTUNNEL_")}
            own = {**base, **self.environment, **given, "HOME": "/tmp", "WINDTUNNEL_HOME": str(self.folder / label)}
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, *container["command"][1:], *arguments],
                    cwd=PROJECT_ROOT, env=own, stdout=output, stderr=output,
                )  # fmt: skip
        self.pods.append(PlayedPod(record, process, log, revision))

    def _orphans(self) -> None:
        names = {key[2] for key in self.objects}
        for pod in self.pods:
            labels = pod.record["metadata"]["labels"]
            owner = labels.get("serving.kserve.io/inferenceservice") or labels["windtunnel/target"]
            kind = "InferenceService" if "serving.kserve.io/inferenceservice" in labels else "Deployment"
            if not pod.leaving and not any(key[1:] == (kind, owner) for key in self.objects) and names is not None:
                pod.leaving = time.monotonic()

    def _probe(self, pod: PlayedPod) -> None:
        entry, status = pod.record["status"]["containerStatuses"][0], pod.record["status"]
        image = pod.record["spec"]["containers"][0]["image"]
        entry["image"] = entry["imageID"] = image
        if pod.leaving:
            pod.record["metadata"]["deletionTimestamp"] = now()
            if pod.process is None or pod.process.poll() is not None:
                self.pods.remove(pod)
            elif time.monotonic() - pod.leaving > 0.7:  # by then clients know; real ones have its drain seconds
                pod.process.terminate()
            status["conditions"] = [{"type": "Ready", "status": "False"}]
            return
        if pod.process is None:
            entry["state"] = {"waiting": {"reason": "ErrImagePull", "message": f"{image} not found"}}
            return
        if (code := pod.process.poll()) is not None:
            entry["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
            entry["lastState"] = {"terminated": {"exitCode": code, "reason": "Error"}}
            entry["restartCount"] = 3
            return
        entry["state"] = {"running": {"startedAt": entry.get("state", {}).get("running", {}).get("startedAt", now())}}
        url = f"http://{status['podIP']}:{self.port}/v2/health"
        entry["started"] = entry.get("started") or _answers(f"{url}/live")
        ready = entry["started"] and _answers(f"{url}/ready")
        status["conditions"] = [{"type": "Ready", "status": str(bool(ready))}]
        entry["ready"] = bool(ready)

    def tail(self, name: str) -> str:
        pod = next(pod for pod in self.pods if pod.record["metadata"]["name"] == name)
        return pod.log.read_text()


class _Handler(http.server.BaseHTTPRequestHandler):
    cluster: PlayedCluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    do_PATCH = do_DELETE = do_GET

    def _serve(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        parts = urlsplit(self.path)
        with self.cluster.lock:
            self.cluster.asked.append(f"{self.command} {parts.path}")
            status, answer = self._answer(parts.path, dict(parse_qsl(parts.query)), body)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(BrokenPipeError):
            self.wfile.write(data)

    def _answer(self, path: str, query: dict[str, str], body: Record) -> tuple[int, Record | str]:
        cluster = self.cluster
        version, _, rest = path.removeprefix("/apis/").removeprefix("/api/").partition("/namespaces/")
        kinds = cluster.kinds.get(version)
        if kinds is None:
            return 404, {"message": "page not found"}
        if not rest:
            return 200, {"resources": [{"kind": kind, "name": name} for kind, name in kinds.items()]}
        namespace, resource, *more = rest.split("/")
        kind = next(kind for kind, name in kinds.items() if name == resource)
        if refused := cluster.refuse.get((self.command, kind)):
            return refused[0], {"message": refused[1]}
        if namespace != cluster.namespace and self.command == "PATCH":
            return 404, {"message": f'namespaces "{namespace}" not found'}
        if more[1:] == ["log"]:
            return 200, cluster.tail(more[0])
        if not more:
            return 200, {"items": self._items(version, kind, query)}
        key = (version, kind, more[0])
        if self.command == "PATCH":
            if self.headers["Content-Type"].startswith("application/apply-patch"):
                return cluster.apply(key, body, query["fieldManager"], query["force"] == "true")
            return cluster.merge(key, body, query["fieldManager"])
        found = cluster.objects.get(key)
        if found is None:
            return 404, {"message": f'{resource} "{more[0]}" not found'}
        if self.command == "DELETE":
            del cluster.objects[key]
            cluster.owners.pop(key, None)
        return 200, found

    def _items(self, version: str, kind: str, query: dict[str, str]) -> list[Record]:
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        pods = [pod.record for pod in self.cluster.pods]
        found = (
            pods
            if kind == "Pod"
            else [item for key, item in self.cluster.objects.items() if key[:2] == (version, kind)]
        )
        return [item for item in found if wanted.items() <= item["metadata"].get("labels", {}).items()]

    def log_message(self, *_: Any) -> None: ...


def _new(key: Key, namespace: str) -> Record:
    metadata = {"uid": uuid.uuid4().hex, "creationTimestamp": now(), "namespace": namespace, "generation": 0}
    return {"apiVersion": key[0], "kind": key[1], "metadata": metadata}


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Paths of all fields; a list is one field."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _at(record: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        record = record.get(part) if isinstance(record, dict) else None
    return record


def _put(record: Record, path: tuple[Any, ...], value: Any) -> None:
    for part in path[:-1]:
        record = record.setdefault(part, {})
    if value is None:
        record.pop(path[-1], None)
    else:
        record[path[-1]] = copy.deepcopy(value)


def _ready(pod: PlayedPod) -> bool:
    return {"type": "Ready", "status": "True"} in pod.record["status"].get("conditions", [])


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _end(pod: PlayedPod, *, kill: bool = False) -> None:
    if pod.process is not None and pod.process.poll() is None:
        pod.process.terminate()
        try:
            pod.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pod.process.kill()
            pod.process.wait()
