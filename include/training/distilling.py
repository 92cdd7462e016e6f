"""Learning from a teacher: what a trained model adds to the loss of one that is being trained.

A LightningModule that can has an attribute `distillation`, None unless the spec names a teacher, and asks it in its
training step:

    if self.distillation is not None:
        theirs = self.distillation.ask(lambda teacher: teacher.logits(batch))
        loss = self.distillation.soft_targets(loss, logits, theirs)
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional

from include.spec.transfer import TeacherSpec

#: The attribute of a LightningModule that can learn from a teacher.
DISTILLATION = "distillation"


class Distillation:
    """A teacher, and how much it counts.

    It is no part of the module that learns: it is neither saved with it, nor wrapped by DDP, nor trained.
    """

    def __init__(self, teacher: LightningModule, spec: TeacherSpec) -> None:
        self._teacher = teacher.eval().requires_grad_(False)
        self._spec = spec

    def ask(self, question: Callable[[Any], Tensor], device: torch.device | None = None) -> Tensor:
        """What the teacher says, without a gradient; `question` gets the teacher, on `device` if one is given."""
        if device is not None and self._teacher.device != device:
            self._teacher.to(device)
        with torch.no_grad():
            return question(self._teacher)

    def soft_targets(self, loss: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss on the data and the divergence from the teacher's softened probabilities, blended.

        The latter is times the temperature's square, which keeps its gradients as large at any temperature (Hinton et
        al. 2015, arXiv:1503.02531).

        Args:
            loss: On the data.
            student, teacher: Logits, shape (n, classes).
        """
        temperature = self._spec.temperature
        divergence = functional.kl_div(
            functional.log_softmax(student.float() / temperature, dim=-1),
            functional.log_softmax(teacher.float() / temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        return self._blend(loss, divergence * temperature**2)

    def embeddings(self, loss: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss on the data and the mean cosine distance from the teacher's embeddings, blended.

        Args:
            student, teacher: Shape (n, width), of the same width.
        """
        return self._blend(loss, 1.0 - functional.cosine_similarity(student.float(), teacher.float(), dim=-1).mean())

    def _blend(self, loss: Tensor, taught: Tensor) -> Tensor:
        return (1.0 - self._spec.weight) * loss + self._spec.weight * taught
