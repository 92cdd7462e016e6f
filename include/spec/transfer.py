"""The spec of learning that starts from something: from other weights, with a part frozen, from a teacher.

Parameters are named as in the family's LightningModule (`encoder.layers.0.attention.weight`), by patterns with `*`, `?`
and `[...]`. A pattern that fits none is an error, because a misspelt one would train what should be frozen.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.spec.base import Name, SpecModel

Pattern = Annotated[str, Field(min_length=1)]
Patterns = Annotated[tuple[Pattern, ...], Field(min_length=1)]
_Amount = Annotated[float, Field(ge=0)]
#: A model of this family that was trained before: a registered version (`1.4.0`), the digest of a model package, or
#: `champion` (what serves when the run is planned; none, where that is a baseline or nothing yet).
Trained = Annotated[str, Field(pattern=r"^(champion|\d+\.\d+\.\d+|[0-9a-f]{64})$")]


class UnfreezeStage(SpecModel):
    """From when on more of what `freeze` froze learns.

    Attributes:
        after_epochs, after_steps: Epochs or optimizer steps that are done before; exactly one of them is given.
        parameters: What learns from then on.
    """

    after_epochs: Annotated[int, Field(ge=1)] | None = None
    after_steps: Annotated[int, Field(ge=1)] | None = None
    parameters: Patterns

    @model_validator(mode="after")
    def _one_moment(self) -> UnfreezeStage:
        if (self.after_epochs is None) == (self.after_steps is None):
            raise ValueError("give after_epochs or after_steps, and not both")
        return self


class RateSpec(SpecModel):
    """A share of the learning rate for some parameters; where several fit a parameter, the first one counts."""

    parameters: Patterns
    factor: Annotated[float, Field(gt=0)]


class TransferSpec(SpecModel):
    """What a training starts from, and which parameters learn when.

    Attributes:
        init_from: The model whose weights it starts from (continued training, domain adaptation); None: what the
            family's own code starts from.
        init_parameters: Which of them are taken; empty: all, and then each that this model learns must be among them.
        learn_only: What learns; everything else is frozen (feature extraction: only the head learns). Empty: all.
        freeze: What does not learn, of the rest.
        unfreeze: When some of it begins to.
        rates: Parameters that learn slower or faster than the others.
    """

    init_from: Trained | None = None
    init_parameters: tuple[Pattern, ...] = ()
    learn_only: tuple[Pattern, ...] = ()
    freeze: tuple[Pattern, ...] = ()
    unfreeze: tuple[UnfreezeStage, ...] = ()
    rates: tuple[RateSpec, ...] = ()

    @model_validator(mode="after")
    def _parts_agree(self) -> TransferSpec:
        if self.unfreeze and not (self.freeze or self.learn_only):
            raise ValueError("there is nothing to unfreeze: neither freeze nor learn_only is given")
        if self.init_parameters and self.init_from is None:
            raise ValueError("init_parameters are of no model: give init_from")
        for unit in ("after_epochs", "after_steps"):
            moments = [at for stage in self.unfreeze if (at := getattr(stage, unit)) is not None]
            if any(first >= second for first, second in pairwise(moments)):
                raise ValueError(f"the stages of unfreeze are not in the order of {unit}")
        return self


class TasksSpec(SpecModel):
    """How the losses of several tasks make one.

    Attributes:
        balance: `fixed`: their sum, each times its weight. `uncertainty`: each is weighted by a variance that learns
            with the model (Kendall et al. 2018, arXiv:1705.07115), on top of its weight.
        weights: Weight by task; a task that is not named has 1, and 0 leaves one out.
    """

    balance: Literal["fixed", "uncertainty"] = "fixed"
    weights: dict[Name, _Amount] = {}


class TeacherSpec(SpecModel):
    """A model to learn from beside the data.

    Attributes:
        model: The teacher. It may be larger: it is built as it was trained.
        weight: Share of the loss that the teacher makes up; the data makes up the rest.
        temperature: Softens the targets of both sides (Hinton et al. 2015, arXiv:1503.02531).
    """

    model: Trained
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 2.0
