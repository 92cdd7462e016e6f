"""The spec of what a pod of the family asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from include.spec.base import SpecModel
from include.spec.costs import PricesSpec, Quantity

#: Names of Kubernetes objects (RFC 1123).
_ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class ResourcesSpec(SpecModel):
    """What a pod of the family asks for; read by the Kubernetes operator. Of a local process, `gpu` and `prices` are
    read, to reckon what it costs, and `cpu` and `memory` where `WINDTUNNEL_LOCAL_LIMITS` says that they hold there.

    What is None or empty is left to the site's pod template (`WINDTUNNEL_POD_TEMPLATE`), and without one to
    `include.pods.manifest`.

    Attributes:
        cpu, memory, ephemeral_storage: Request and limit at once, so that nobody takes them away.
        gpu: How many.
        gpu_kind: The node label `nvidia.com/gpu.product` that is asked for, such as `NVIDIA-H100-80GB-HBM3`.
        shared_memory: Of `/dev/shm`, through which data loaders and training processes of one pod talk; what is used of
            it counts as memory. The container runtime's own 64 MiB are too few for that.
        image: With a tag or, better, a digest: `registry/windtunnel-trainer@sha256:...`.
        image_pull_secrets: Names of secrets that may pull the image.
        secrets: Names of further secrets whose keys become environment variables, such as `AIRFLOW_CONN_...`.
        node_selector, tolerations: As in a pod's spec.
        spot: The pod may run on nodes that can be taken away; which those are, the site says
            (`WINDTUNNEL_SPOT_NODES`).
        priority_class: Which pods make way for it, and for which it makes way.
        grace_seconds: Between SIGTERM and SIGKILL; a training saves itself in that time.
        pending_minutes: How long a pod may wait for a node and its image before it counts as failed; and the pods of
            one training (`trainer.nodes`) for each other, of which then none is left.
        timeout_minutes: How long a step may take in all.
        keep_hours: How long a pod that ended badly stays to be looked at.
    """

    cpu: Quantity = "2"
    memory: Quantity = "8Gi"
    gpu: Annotated[int, Field(ge=0)] = 0
    gpu_kind: str | None = None
    ephemeral_storage: Quantity = "20Gi"
    shared_memory: Quantity | None = "1Gi"
    image: Annotated[str, Field(pattern=r"^\S+$")] | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: tuple[_ObjectName, ...] = ()
    namespace: _ObjectName | None = None
    service_account: _ObjectName | None = None
    secrets: tuple[_ObjectName, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    spot: bool = False
    priority_class: _ObjectName | None = None
    grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    pending_minutes: Annotated[int, Field(ge=1)] = 15
    timeout_minutes: Annotated[int, Field(ge=1)] = 120
    keep_hours: Annotated[float, Field(ge=0)] = 24.0
    prices: PricesSpec = PricesSpec()

    @model_validator(mode="after")
    def _a_kind_needs_a_number(self) -> ResourcesSpec:
        if self.gpu_kind and not self.gpu:
            raise ValueError("gpu_kind is given, but gpu is 0: the pod would wait for a GPU node and use none of it")
        return self
