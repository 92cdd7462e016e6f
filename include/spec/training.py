"""The spec of how `fit` runs, and what a step that ended badly may do by itself."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.spec.base import SpecModel
from include.spec.optimizing import AdamSpec, DecaySchedule, OptimizerSpec, SchedulerSpec
from include.spec.transfer import TasksSpec, TeacherSpec, TransferSpec


class Precision(str, Enum):
    """Lightning's names for the precisions."""

    FP32 = "32-true"
    FP16 = "16-mixed"
    BF16 = "bf16-mixed"


class Framework(str, Enum):
    """What trains: PyTorch with Lightning, Keras on TensorFlow (extra `keras`), scikit-learn."""

    LIGHTNING = "lightning"
    KERAS = "keras"
    SKLEARN = "sklearn"


#: What the other frameworks do not know, or what the family's code says for them.
_LIGHTNING_ONLY = (
    "gradient_clip_value",
    "optimizer",
    "scheduler",
    "early_stopping_min_delta",
    "transfer",
    "tasks",
    "teacher",
)
_NOT_SKLEARN = ("accumulate_grad_batches", "gradient_clip_norm", "precision", "accelerator")


class TrainerSpec(SpecModel):
    """How `fit` runs, whatever the model.

    Attributes:
        framework: What trains the model; the family's code must have its parts. Of scikit-learn an epoch is a round, in
            which an ensemble grows or all examples are seen once, and batches, accumulation and clipping are its own.
        batch_size: Examples that are computed at once, over all processes of all nodes.
        accumulate_grad_batches: Batches whose gradients make one optimizer step.
        gradient_clip_norm: Largest norm of all gradients together; 0: they are not clipped by norm.
        gradient_clip_value: Largest amount of each component instead; needs `gradient_clip_norm: 0`.
        optimizer, scheduler: How weights move, and how the learning rate goes; see `include.spec.optimizing`.
        devices: Processes in each pod, each with a GPU of its own where there are GPUs.
        nodes: Pods that train one model together (Lightning's `num_nodes`); each asks for `resources`.
        checkpoint_every_steps: Optimizer steps that a killed training may have to do again.
        early_stopping_patience: Epochs without a better `sweep.metric` after which training ends; None: never.
        early_stopping_min_delta: By how much it must be better, in its own unit.
        max_examples: Training examples that are used; None: all.
        transfer: Weights to start from, and which parameters learn when.
        tasks: How the losses of several tasks make one, for a family that has several.
        teacher: A model to learn from beside the data, for a family that can.
    """

    framework: Framework = Framework.LIGHTNING
    max_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 32
    accumulate_grad_batches: Annotated[int, Field(ge=1)] = 1
    gradient_clip_norm: Annotated[float, Field(ge=0)] = 1.0
    gradient_clip_value: Annotated[float, Field(gt=0)] | None = None
    precision: Precision = Precision.FP32
    optimizer: OptimizerSpec = AdamSpec()
    scheduler: SchedulerSpec = DecaySchedule()
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(ge=1)] = 1
    nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 50
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    early_stopping_min_delta: Annotated[float, Field(ge=0)] = 0.0
    max_examples: Annotated[int, Field(ge=1)] | None = None
    transfer: TransferSpec = TransferSpec()
    tasks: TasksSpec = TasksSpec()
    teacher: TeacherSpec | None = None

    @model_validator(mode="after")
    def _one_way_to_clip(self) -> TrainerSpec:
        if self.gradient_clip_value is not None and self.gradient_clip_norm:
            raise ValueError("gradients are clipped by norm or by value: set gradient_clip_norm to 0 for the latter")
        return self

    @model_validator(mode="after")
    def _framework_can(self) -> TrainerSpec:
        if self.framework is Framework.LIGHTNING:
            return self
        if self.world > 1:
            raise ValueError(f"{self.framework.value} trains in one process: devices and nodes must be 1")
        unknown = (*_LIGHTNING_ONLY, *(_NOT_SKLEARN if self.framework is Framework.SKLEARN else ()))
        asked = [name for name in unknown if getattr(self, name) != type(self).model_fields[name].default]
        if asked:
            raise ValueError(f"`framework: {self.framework.value}` has no {', '.join(asked)}: leave that out")
        return self

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
