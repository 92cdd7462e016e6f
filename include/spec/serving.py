"""The spec of where an installation serves its models: one for all families, in the file that the site names.

It is no part of a family's spec, because one gateway serves all families. Without a file, models are served by the
gateway at `WINDTUNNEL_GATEWAY_URL`, which somebody else keeps running.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from include.spec.base import Fraction, SpecModel
from include.spec.costs import Quantity
from include.spec.load import parse_file

#: Names of Kubernetes objects, of at most the length that a label may have (RFC 1123).
_ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$")]
_Port = Annotated[int, Field(ge=1, le=65535)]
_BY_DIGEST = re.compile(r"^[^\s@]+@sha256:[0-9a-f]{64}$")


class TargetKind(str, Enum):
    """What serves models."""

    LOCAL = "local"  # a gateway process of this machine, or one that somebody else keeps running
    KUBERNETES = "kubernetes"  # a Deployment of gateways, with its autoscaler
    KSERVE = "kserve"  # an InferenceService per family


class ReplicasSpec(SpecModel):
    """How many gateways serve.

    Attributes:
        min, max: Where they are equal there is no autoscaler.
        cpu_percent: Of the cores that are asked for; above it, more gateways are started.
        calm_seconds: For how long less must have been enough before gateways are taken away.
    """

    min: Annotated[int, Field(ge=1)] = 2
    max: Annotated[int, Field(ge=1)] = 8
    cpu_percent: Annotated[int, Field(ge=1, le=100)] = 70
    calm_seconds: Annotated[int, Field(ge=0, le=3600)] = 300

    @model_validator(mode="after")
    def _a_range(self) -> ReplicasSpec:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class NetworkSpec(SpecModel):
    """Who may talk to whom; enforced where the cluster's network plug-in does so.

    Attributes:
        clients: Labels of the namespaces whose pods may ask the gateway.
        airflow, monitoring: Namespaces of Airflow, which asks whether a routing table has arrived, and of Prometheus.
        store_ports: Where the gateway goes: the database, the object store.
    """

    clients: dict[str, str] = {"windtunnel/clients": "true"}
    airflow: _ObjectName = "airflow"
    monitoring: _ObjectName = "monitoring"
    store_ports: tuple[_Port, ...] = (443, 5432)


class AlertsSpec(SpecModel):
    """When Prometheus calls a person.

    Attributes:
        labels: Of the ServiceMonitor and the PrometheusRule, by which a Prometheus finds its own.
        error_rate: Share of a variant's requests that fail, over five minutes.
        latency_ms: 95th percentile of what clients waited, over five minutes.
        turned_away: Share of all requests that the gateway had no room for, over five minutes.
        scrape_seconds: How often the gateway is asked.
    """

    labels: dict[str, str] = {}
    error_rate: Fraction = 0.01
    latency_ms: Annotated[float, Field(gt=0)] = 500.0
    turned_away: Fraction = 0.01
    scrape_seconds: Annotated[int, Field(ge=1)] = 15


class ServingSpec(SpecModel):
    """Where models are served, and how.

    Attributes:
        by_release: Releases keep the target as this spec says; False: somebody else does, and they only look.
        name: Of the objects in the cluster; one installation may have several targets beside each other.
        context: Of the kubeconfig; None takes its current one, or the pod's own account.
        image: By its digest, `registry/windtunnel-gateway@sha256:...`.
        allow_tag: A tag will do, such as for an image that was loaded into a laptop's cluster.
        secret: In the namespace; its keys are the gateway's environment: URLs, passwords, the API key. Referred to,
            never read.
        workers: Processes of one gateway; each has the models in its memory.
        cpu, memory: Of one gateway; memory is request and limit, of cores there is no limit.
        scratch: Room for models that were fetched and predictions that are not written yet.
        deadline_seconds: How long a roll-out may take before it counts as failed.
        stuck_seconds: How long to wait for what will hardly mend itself, such as an image that cannot be pulled.
        pod: Laid over the gateway's pod, by the rules of `include.pods.manifest`: registry, tolerations, volumes.
    """

    target: TargetKind = TargetKind.LOCAL
    by_release: bool = True
    name: _ObjectName = "windtunnel-gateway"
    namespace: _ObjectName = "windtunnel"
    context: str | None = None
    image: Annotated[str, Field(pattern=r"^\S+$")] | None = None
    allow_tag: bool = False
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[_ObjectName, ...] = ()
    secret: _ObjectName = "windtunnel-env"
    port: _Port = 8900
    replicas: ReplicasSpec = ReplicasSpec()
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    cpu: Quantity = "1"
    memory: Quantity = "2Gi"
    scratch: Quantity = "10Gi"
    deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    stuck_seconds: Annotated[float, Field(ge=0)] = 60.0
    network: NetworkSpec = NetworkSpec()
    alerts: AlertsSpec = AlertsSpec()
    pod: dict[str, Any] = {}

    @field_validator("pod")
    @classmethod
    def _only_what_is_laid_over(cls, pod: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(pod) - {"metadata", "spec"})
        if unknown:
            raise ValueError(f"a pod has metadata and spec, not {unknown[0]!r}")
        return pod

    @model_validator(mode="after")
    def _image_by_digest(self) -> ServingSpec:
        if self.target is TargetKind.LOCAL:
            return self
        if self.image is None:
            raise ValueError(f"target {self.target.value} needs `image`")
        if not self.allow_tag and not _BY_DIGEST.match(self.image):
            raise ValueError("name the image by its digest (repository@sha256:...), or set allow_tag: true")
        return self


def read_serving(path: str) -> ServingSpec:
    """The spec in the YAML file `path`; the local default where `path` is empty.

    Raises:
        SpecError: It cannot be read, or says what no target understands.
    """
    return parse_file(Path(path), ServingSpec) if path else ServingSpec()
