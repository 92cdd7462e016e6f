"""The gateway on Kubernetes, as manifests: a pure function of the serving spec and of what the cluster knows.

Nothing secret is in them: the gateway's settings, its API key among them, come from a secret that is referred to. No
manifest names the number of gateways: it belongs to the autoscaler, or to whoever scales, and a field that is applied
once and left out later would fall back to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from include.pods.manifest import over
from include.spec.serving import ServingSpec
from include.steps.fingerprint import fingerprint
from include.targets.alerts import monitor, rules
from include.targets.gateway_pod import Manifest, chosen, labels, pod

Knows = Callable[[str, str], bool]

#: Label of the pods: which kind of gateway they are.
REVISION = "windtunnel/revision"
#: Annotation of the autoscaler or Deployment: a person asked for so many gateways.
HELD = "windtunnel/replicas"
_DNS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
#: Newest first. The older ones are of clusters before 1.21 and 1.23; the fields used here are the same in both.
_AUTOSCALING = ("autoscaling/v2", "autoscaling/v2beta2")
_POLICY = ("policy/v1", "policy/v1beta1")


@dataclass(frozen=True)
class Plan:
    """What is to be in the cluster.

    Attributes:
        objects: In the order in which they are applied.
        left_out: Kinds that the cluster does not know.
    """

    objects: tuple[Manifest, ...]
    left_out: tuple[str, ...] = ()


def everything(_: str, __: str) -> bool:
    """A cluster that knows all API versions and kinds."""
    return True


def plan(spec: ServingSpec, knows: Knows = everything, held: int | None = None) -> Plan:
    """All objects of the target.

    Args:
        knows: Whether the cluster has a kind in an API version.
        held: How many gateways a person asked for at least; None: as the spec says.
    """
    objects = [account(spec), network(spec), service(spec), deployment(spec, held)]
    left_out = []
    for make, kind, versions in (
        (disruption, "PodDisruptionBudget", _POLICY),
        (autoscaler, "HorizontalPodAutoscaler", _AUTOSCALING),
    ):
        version = next((version for version in versions if knows(version, kind)), None)
        if kind == "HorizontalPodAutoscaler" and spec.replicas.min == spec.replicas.max:
            continue
        if version is None:
            left_out.append(kind)
        else:
            objects.append(make(spec, version, held))
    for found in (monitor(spec, metadata(spec)), rules(spec, metadata(spec))):
        if knows(found["apiVersion"], found["kind"]):
            objects.append(found)
        else:
            left_out.append(found["kind"])
    return Plan(tuple(objects), tuple(left_out))


def bounds(spec: ServingSpec, held: int | None) -> tuple[int, int]:
    """Fewest and most gateways."""
    fewest, most = spec.replicas.min, spec.replicas.max
    if held is None:
        return fewest, most
    return held, held if fewest == most else max(held, most)


def metadata(spec: ServingSpec, held: int | None = None) -> Manifest:
    """Name, namespace and labels of an object."""
    found: Manifest = {"name": spec.name, "namespace": spec.namespace, "labels": labels(spec)}
    return found if held is None else {**found, "annotations": {HELD: str(held)}}


def account(spec: ServingSpec) -> Manifest:
    """The gateway asks Kubernetes for nothing: its account has no rights, and no token is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(spec),
        "automountServiceAccountToken": False,
    }


def deployment(spec: ServingSpec, held: int | None = None) -> Manifest:
    """The gateways. A new one is ready before an old one goes, so that none is missing while they are replaced."""
    template = pod(spec)
    marked = over(template, {"metadata": {"labels": {REVISION: fingerprint(pod=template)[:12]}}})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(spec, held),
        "spec": {
            "selector": {"matchLabels": chosen(spec)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": int(spec.deadline_seconds) + 1,
            "revisionHistoryLimit": 5,
            "template": marked,
        },
    }


def service(spec: ServingSpec) -> Manifest:
    """One address for all gateways that are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(spec),
        "spec": {
            "selector": chosen(spec),
            "ports": [{"name": "http", "port": spec.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def autoscaler(spec: ServingSpec, version: str, held: int | None) -> Manifest:
    """More gateways under load, at once; fewer only when it has been calm for a while."""
    floor, ceiling = bounds(spec, held)
    return {
        "apiVersion": version,
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(spec, held),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name},
            "minReplicas": floor,
            "maxReplicas": ceiling,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": spec.replicas.cpu_percent},
                    },
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": spec.replicas.calm_seconds}},
        },
    }


def disruption(spec: ServingSpec, version: str, _: int | None) -> Manifest:
    """Drained nodes take one gateway at a time."""
    return {
        "apiVersion": version,
        "kind": "PodDisruptionBudget",
        "metadata": metadata(spec),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": chosen(spec)}},
    }


def network(spec: ServingSpec) -> Manifest:
    """In: clients, Airflow, Prometheus, at one port. Out: names, the database, the object store."""
    network = spec.network
    named = [{"kubernetes.io/metadata.name": name} for name in (network.airflow, network.monitoring)]
    sources = [{"namespaceSelector": {"matchLabels": found}} for found in (*named, network.clients)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(spec),
        "spec": {
            "podSelector": {"matchLabels": chosen(spec)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": sources, "ports": [{"protocol": "TCP", "port": spec.port}]}],
            "egress": [
                {"to": [_DNS], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
                {"ports": [{"protocol": "TCP", "port": port} for port in network.store_ports]},
            ],
        },
    }
