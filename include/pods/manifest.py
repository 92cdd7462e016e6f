"""The Kubernetes pod of a step, as a manifest: a pure function of what the family asks for and of what the site gives.

Three layers, each laid over the one before: what every pod has (nobody is root, nothing but scratch can be written, the
settings come from a secret), the site's template (registry, pull secrets, volumes, whatever its cluster demands), and
the family's `resources` with the step's command.

The template is a pod manifest, of which only the differences need to be there: `containers` is matched by name (the
step's container is `base`), as are volumes, variables and mounts; tolerations are added; null takes something away.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from include.errors import UserError
from include.spec.resources import ResourcesSpec

Manifest = dict[str, Any]

CONTAINER = "base"
PART_OF = {"app.kubernetes.io/part-of": "windtunnel"}
#: Secret in the pod's namespace with the WINDTUNNEL_*, MLFLOW_* and AWS_* variables; the pod refers to it by name.
ENV_SECRET = "windtunnel-env"
_USER = 10001  # of the images in docker/
_SCRATCH = "/var/lib/windtunnel"
#: What identifies the elements of a list; those that a later layer names are replaced, except containers: laid over.
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "hostAliases": "ip",
}
_CONTAINERS = frozenset({"containers", "initContainers"})
_ADDED = frozenset({"tolerations", "envFrom"})


@dataclass(frozen=True)
class PodRequest:
    """What is to run.

    Attributes:
        name: The pod's name.
        args: Arguments of the container's `python`.
        labels: Their values may be any text; see `label`.
        env: Variables beside those of the secret; no secrets.
    """

    name: str
    args: Sequence[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def pod_manifest(
    resources: ResourcesSpec, request: PodRequest, template: Mapping[str, Any] | None = None, spot_nodes: str = ""
) -> Manifest:
    """The pod that runs `request` with `resources`, as the API takes it.

    Args:
        template: The site's template.
        spot_nodes: `label=value` of the nodes that may be taken away (`Settings.spot_nodes`).

    Raises:
        UserError: The family asks for spot nodes, and the site does not say which those are.
    """
    return over(over(_every_pod(), template or {}), _asked_for(resources, request, spot_nodes))


def over(base: Mapping[str, Any], later: Mapping[str, Any]) -> Manifest:
    """`later` laid over `base`, by the rules of the module; neither is changed."""
    merged = copy.deepcopy(dict(base))
    for key, value in later.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = over(merged.get(key) or {}, value)
        elif key in _ADDED:
            merged[key] = [*merged.get(key, []), *(item for item in value if item not in merged.get(key, []))]
        elif key in _KEYS:
            merged[key] = _by_key(merged.get(key, []), value, key)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def read_template(path: str) -> Manifest:
    """The site's pod template; empty where `path` is empty.

    Raises:
        UserError: It cannot be read, or is no pod.
    """
    if not path:
        return {}
    hint = "WINDTUNNEL_POD_TEMPLATE names a YAML file with a Kubernetes pod"
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the pod template: {error}", where=path, hint=hint) from error
    if not isinstance(found, dict) or found.get("kind", "Pod") != "Pod":
        raise UserError("the pod template is no pod", where=path, hint=hint)
    spec = found.get("spec") or {}
    names = [each.get("name") for each in spec.get("containers") or []] if isinstance(spec, dict) else [None]
    if None in names:
        raise UserError("a container of the pod template has no name", where=path, hint=f"the step's is {CONTAINER!r}")
    return found


def label(text: str) -> str:
    """`text` as the value of a label: its last 63 characters, without what a label may not hold."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[-63:].strip("_.-")


def _by_key(base: Sequence[Mapping[str, Any]], later: Sequence[Mapping[str, Any]], kind: str) -> list[Manifest]:
    key = _KEYS[kind]
    merged = {item[key]: dict(item) for item in base}
    for item in later:
        known = merged.get(item[key], {}) if kind in _CONTAINERS else {}
        merged[item[key]] = over(known, item)
    return list(merged.values())


def _every_pod() -> Manifest:
    env = {
        "HOME": _SCRATCH,
        "USER": "windtunnel",  # libraries ask for the user's name, and the image may not know the number
        "WINDTUNNEL_HOME": _SCRATCH,
        "PYTHONUNBUFFERED": "1",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "windtunnel", "labels": dict(PART_OF)},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "windtunnel",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": CONTAINER,
                    "image": "windtunnel-trainer:latest",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python"],
                    "env": _variables(env),
                    "envFrom": [_secret(ENV_SECRET)],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "tmp", "mountPath": "/tmp"},
                        {"name": "scratch", "mountPath": _SCRATCH},
                    ],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}],
        },
    }


def _asked_for(resources: ResourcesSpec, request: PodRequest, spot_nodes: str) -> Manifest:
    """What the family and the step say; nothing that they leave to the site."""
    amounts = {"cpu": resources.cpu, "memory": resources.memory, "ephemeral-storage": resources.ephemeral_storage}
    selector, tolerations = dict(resources.node_selector), list(resources.tolerations)
    if resources.gpu:
        amounts["nvidia.com/gpu"] = str(resources.gpu)
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if resources.gpu_kind:
        selector["nvidia.com/gpu.product"] = resources.gpu_kind
    if resources.spot:
        key, value = _spot(spot_nodes)
        selector[key] = value
        tolerations.append({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"})
    container: Manifest = {
        "name": CONTAINER,
        "args": list(request.args),
        "env": _variables(request.env),
        "envFrom": [_secret(name) for name in resources.secrets],
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        **_given(image=resources.image, imagePullPolicy=resources.image_pull_policy),
    }
    spec: Manifest = {
        "containers": [container],
        "nodeSelector": selector,
        "tolerations": tolerations,
        "imagePullSecrets": [{"name": name} for name in resources.image_pull_secrets],
        "terminationGracePeriodSeconds": resources.grace_seconds,
        # The last net under a pod that nobody watches any more; Airflow's own limit comes first.
        "activeDeadlineSeconds": resources.timeout_minutes * 60 + resources.grace_seconds,
        **_given(serviceAccountName=resources.service_account, priorityClassName=resources.priority_class),
    }
    if resources.shared_memory:
        container["volumeMounts"] = [{"name": "shm", "mountPath": "/dev/shm"}]
        spec["volumes"] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": resources.shared_memory}}]
    labels = {key: label(value) for key, value in request.labels.items()}
    metadata = {"name": request.name, "labels": labels, **_given(namespace=resources.namespace)}
    return {"metadata": metadata, "spec": spec}


def _spot(nodes: str) -> tuple[str, str]:
    key, _, value = nodes.partition("=")
    if not key or not value:
        raise UserError(
            "resources.spot is set, but this site does not say which nodes are spot nodes",
            where="WINDTUNNEL_SPOT_NODES",
            hint="set it to the nodes' label: cloud.google.com/gke-spot=true, eks.amazonaws.com/capacityType=SPOT, "
            "kubernetes.azure.com/scalesetpriority=spot or karpenter.sh/capacity-type=spot",
        )
    return key, value


def _given(**values: Any) -> Manifest:
    return {key: value for key, value in values.items() if value is not None}


def _variables(env: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in env.items()]


def _secret(name: str) -> Manifest:
    return {"secretRef": {"name": name}}
