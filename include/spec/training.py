"""The spec of how `fit` runs, and what a step that ended badly may do by itself."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from include.spec.base import SpecModel


class Precision(str, Enum):
    """Lightning's names for the precisions."""

    FP32 = "32-true"
    FP16 = "16-mixed"
    BF16 = "bf16-mixed"


class Framework(str, Enum):
    """What trains."""

    LIGHTNING = "lightning"


class TrainerSpec(SpecModel):
    """How `fit` runs, whatever the model: epochs, devices, precision, checkpoints.

    Attributes:
        framework: What trains the model; the family's code must have its parts.
        batch_size: Examples per batch over all processes of all nodes.
        devices: Processes in each pod, each with a GPU of its own where there are GPUs.
        nodes: Pods that train one model together (Lightning's `num_nodes`); each asks for `resources`.
    """

    framework: Framework = Framework.LIGHTNING
    max_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 32
    accumulate_grad_batches: Annotated[int, Field(ge=1)] = 1
    gradient_clip_norm: Annotated[float, Field(ge=0)] = 1.0
    precision: Precision = Precision.FP32
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(ge=1)] = 1
    nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 50
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    max_examples: Annotated[int, Field(ge=1)] | None = None

    @property
    def world(self) -> int:
        """Processes that train together, over all pods."""
        return self.nodes * self.devices


class RetrySpec(SpecModel):
    """What a step that ended badly may do by itself, beside the task's ordinary retries (`include/failures`).

    Attributes:
        lost_places: Times that a step of one run starts again for nothing because its place was taken away: evicted,
            preempted, node lost.
        pause_seconds: How long it waits before it does.
        learning_rate_factor: What the learning rate is multiplied by, once, after training diverged; 1 gives up.
    """

    lost_places: Annotated[int, Field(ge=0, le=1000)] = 10
    pause_seconds: Annotated[float, Field(ge=0)] = 30.0
    learning_rate_factor: Annotated[float, Field(gt=0, le=1)] = 0.3
