"""The losses of several tasks made into one, as the spec's `trainer.tasks` says.

A LightningModule keeps it as a part of itself, because `uncertainty` learns with it:

    self.tasks = TaskLosses(trainer_spec.tasks, ["kind", "amount"])

and returns `self.tasks({"kind": ..., "amount": ...})` from its training step: the loss, and beside it the losses of the
tasks, which are shown with the training's progress and kept in MLflow.
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from include.errors import UserError
from include.spec.transfer import TasksSpec

#: Key of the tasks' losses in what a training step returns.
LOSSES = "losses"


class TaskLosses(nn.Module):
    """Weighs the losses.

    With `uncertainty`, each loss L has a learned s and counts as `exp(-s) * L + s` (Kendall et al. 2018,
    arXiv:1705.07115, with s the logarithm of the variance): a task that cannot be learned well counts less. It starts
    at s = 0, which is `fixed`.

    Raises:
        UserError: The spec weighs a task that there is not, or leaves out all.
    """

    def __init__(self, spec: TasksSpec, names: Sequence[str]) -> None:
        super().__init__()
        unknown = sorted(set(spec.weights) - set(names))
        if unknown:
            raise UserError(
                f"there is no task {unknown[0]!r}", where="trainer.tasks.weights", hint=f"known: {', '.join(names)}"
            )
        self.weights = {name: spec.weights.get(name, 1.0) for name in names}
        if not any(self.weights.values()):
            raise UserError("all tasks have the weight 0", where="trainer.tasks.weights")
        learned = [name for name in names if self.weights[name]] if spec.balance == "uncertainty" else []
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in learned})

    def forward(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor | dict[str, Tensor]]:
        """What a training step returns: `loss`, and the `losses` of the tasks by name."""
        parts = [self._weighed(name, losses[name]) for name, weight in self.weights.items() if weight]
        shown = {name: value.detach() for name, value in losses.items()}
        return {"loss": torch.stack(parts).sum(), LOSSES: shown}

    def _weighed(self, name: str, loss: Tensor) -> Tensor:
        loss = loss.float()
        if name in self.log_variances:
            variance = self.log_variances[name]
            loss = torch.exp(-variance) * loss + variance
        return self.weights[name] * loss
