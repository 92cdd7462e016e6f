"""The spec of what a pod of the family asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from include.spec.base import SpecModel
from include.spec.costs import PricesSpec, Quantity


class ResourcesSpec(SpecModel):
    """What a pod of the family asks for; read by the Kubernetes operator. Of a local process, only `gpu` and `prices`
    are read, to reckon what it costs."""

    cpu: Quantity = "2"
    memory: Quantity = "8Gi"
    gpu: Annotated[int, Field(ge=0)] = 0
    gpu_kind: str | None = None
    ephemeral_storage: str = "20Gi"
    image: str = "windtunnel-trainer:latest"
    namespace: str = "windtunnel"
    service_account: str = "windtunnel"
    node_selector: dict[str, str] = {}
    priority_class: str | None = None
    timeout_minutes: Annotated[int, Field(ge=1)] = 120
    prices: PricesSpec = PricesSpec()
