"""What computing costs, and what a sweep may take of it: parts of a family's spec."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from include.spec.base import SpecModel
from include.spec.quantities import amount


def _quantity(text: str) -> str:
    amount(text)
    return text


Quantity = Annotated[str, AfterValidator(_quantity)]
_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PricesSpec(SpecModel):
    """What computing costs here. 0 is unknown, and what it would be part of is shown as `n/a`.

    Attributes:
        currency: ISO 4217 code of all prices.
        cpu_hour, gib_hour: Of a core, and of a GiB of memory, for an hour.
        gpu_hour: Of a GPU for an hour, by its kind (`resources.gpu_kind`); `any` for those that are not listed.
    """

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    cpu_hour: _Price = 0.0
    gib_hour: _Price = 0.0
    gpu_hour: dict[str, _Price] = {}

    @property
    def known(self) -> bool:
        """Whether there is any price."""
        return bool(self.cpu_hour or self.gib_hour or any(self.gpu_hour.values()))


class SweepBudget(SpecModel):
    """What all trials of a sweep together may take, beside their number.

    A new trial does not start when what is spent, what runs, and the mean of the finished ones for the new one would
    exceed it. The first trial, which tries the defaults, always starts.

    Attributes:
        minutes: Of trials, summed over the workers: four workers use up 60 minutes in 15.
        money: In the currency of `resources.prices`, for what the workers' pods ask for in that time.
    """

    minutes: Annotated[float, Field(gt=0)] | None = None
    money: Annotated[float, Field(gt=0)] | None = None


class ConvergenceSpec(SpecModel):
    """When a sweep has found what it can: the last `patience` trials improved the best by no more than `min_delta`."""

    patience: Annotated[int, Field(ge=1)]
    min_delta: Annotated[float, Field(ge=0)] = 0.0
