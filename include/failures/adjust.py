"""What a next try changes about a training that ran out of memory or diverged.

An adjustment is no part of a step's fingerprint: it is the same work in the same place, done in another way because the
way that was asked for did not go. It is kept beside the work (`records.py`), handed to the step in its run document,
and told with its result.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from include.spec.training import Framework, TrainerSpec


class Adjustment(BaseModel):
    """How a try differs from what was asked for.

    Attributes:
        batch_divisor: The batch that is computed at once is so many times smaller, and so many times more of them are
            accumulated before the weights move: the same examples per optimizer step.
        learning_rate_factor: The learning rate is multiplied by it, from the first step on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_divisor: int = Field(default=1, ge=1)
    learning_rate_factor: float = Field(default=1.0, gt=0)

    @property
    def is_none(self) -> bool:
        """Whether the work is done as it was asked for."""
        return self == Adjustment()

    @property
    def branch(self) -> str:
        """Names the course of training among those of the same work: "" as asked for, else by the learning rate.

        Another batch division goes on from the checkpoints of the one before it; another learning rate must not.
        """
        return "" if self.learning_rate_factor == 1.0 else f"lr-{self.learning_rate_factor:g}"

    def both(self, other: Adjustment) -> Adjustment:
        """This and `other` together: the smaller batch, and the smaller learning rate."""
        return Adjustment(
            batch_divisor=max(self.batch_divisor, other.batch_divisor),
            learning_rate_factor=min(self.learning_rate_factor, other.learning_rate_factor),
        )

    def trainer(self, trainer: TrainerSpec) -> TrainerSpec:
        """The trainer's part of the spec, adjusted; examples per optimizer step stay what they were."""
        return trainer.model_copy(
            update={
                "batch_size": trainer.batch_size // self.batch_divisor,
                "accumulate_grad_batches": trainer.accumulate_grad_batches * self.batch_divisor,
            }
        )


def smaller_batch(trainer: TrainerSpec, now: Adjustment) -> Adjustment | None:
    """The next smaller batch, half of it where it can be halved; None where each process has one example already, or
    where there are no batches: scikit-learn takes all examples at once.

    Only a divisor keeps the examples per optimizer step: a batch of 33 becomes three of 11.
    """
    if trainer.framework is Framework.SKLEARN:
        return None
    size = trainer.batch_size // now.batch_divisor
    for factor in range(2, size + 1):
        rest = size // factor
        if size % factor == 0 and rest >= trainer.world and (rest % trainer.world == 0 or size % trainer.world):
            return now.model_copy(update={"batch_divisor": now.batch_divisor * factor})
    return None
