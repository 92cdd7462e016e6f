"""The pod of a gateway: nobody is root, nothing but scratch can be written, what is secret is referred to. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from include.pods.manifest import PART_OF, over
from include.spec.quantities import cores
from include.spec.serving import ServingSpec

Manifest = dict[str, Any]

CONTAINER = "gateway"
NAME, TARGET = "app.kubernetes.io/name", "windtunnel/target"
_USER = 10001  # of the images in docker/
_HOME = "/var/lib/windtunnel"
_DRAIN_SECONDS = 5


def labels(spec: ServingSpec) -> dict[str, str]:
    """Of every object of the target, by which they are found again."""
    return {NAME: spec.name, TARGET: spec.name, "app.kubernetes.io/managed-by": "windtunnel", **PART_OF}


def chosen(spec: ServingSpec) -> dict[str, str]:
    """The label by which the gateways' pods are chosen."""
    return {NAME: spec.name}


def pod(spec: ServingSpec, container: str = CONTAINER, extra: Mapping[str, str] | None = None) -> Manifest:
    """Metadata and spec of a gateway's pod.

    Args:
        extra: Variables beside those that every gateway has.
    """
    return over({"metadata": {"labels": labels(spec)}, "spec": _pod_spec(spec, container, extra or {})}, spec.pod)


def _pod_spec(spec: ServingSpec, container: str, extra: Mapping[str, str]) -> Manifest:
    env = {
        "HOME": _HOME,
        "USER": "windtunnel",
        "WINDTUNNEL_HOME": _HOME,
        "PYTHONUNBUFFERED": "1",
        # endpoints forget a pod some seconds after it was told to go: until then it still takes requests
        "WINDTUNNEL_GATEWAY_DRAIN_SECONDS": str(_DRAIN_SECONDS),
        **extra,
    }
    threads = max(1, math.ceil(cores(spec.cpu) / spec.workers))
    counts = ["--workers", str(spec.workers), "--threads", str(threads)]  # not by the node's cores
    return {
        "serviceAccountName": spec.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _DRAIN_SECONDS + 40,  # requests in flight have 30 s
        "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": chosen(spec)},
            }
        ],
        "containers": [
            {
                "name": container,
                "image": spec.image,
                "imagePullPolicy": spec.image_pull_policy,
                "command": ["python", "-m", "include.serving"],
                "args": ["--host", "0.0.0.0", "--port", str(spec.port), *counts],
                "envFrom": [{"secretRef": {"name": spec.secret}}],
                "env": [{"name": name, "value": value} for name, value in env.items()],
                "ports": [{"name": "http", "containerPort": spec.port, "protocol": "TCP"}],
                **_probes(),
                "resources": {
                    "requests": {"cpu": spec.cpu, "memory": spec.memory},
                    "limits": {"memory": spec.memory},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": _HOME}],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "home", "emptyDir": {"sizeLimit": spec.scratch}},
        ],
    }


def _probes() -> Manifest:
    live, ready = ({"httpGet": {"path": f"/v2/health/{what}", "port": "http"}} for what in ("live", "ready"))
    return {
        "startupProbe": {**live, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {**live, "periodSeconds": 10, "timeoutSeconds": 3, "failureThreshold": 6},
    }
