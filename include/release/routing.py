"""Who answers whom: the routing table of a family, and the assignment of units to variants. Pure.

A unit (a user, a session) is hashed to a point in [0, 1). The challenger owns [0, w) and the champion the rest, so that
a unit that came to the challenger at 5% is still there at 50%: assignment is sticky while a rollout only grows.

An experiment may have many variants. There every variant draws a number for the unit, and the smallest one over its
weight gets it: weighted rendezvous hashing (C. Schindelhauer and G. Schomaker, "Weighted distributed hash tables", SPAA
2005). A variant that grows keeps its units, and units that move come to it and to no other.
"""

from __future__ import annotations

import hashlib
import math
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from include.errors import WindtunnelError


class RoutingError(WindtunnelError):
    """A routing table that cannot be: no champion, weights out of range."""


class Role(str, Enum):
    """What a variant is in the routing table."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


class Variant(BaseModel):
    """A model version that may answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    version: str
    digest: str


class Arm(BaseModel):
    """A variant of an experiment and its weight; only the proportion to the other weights matters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Variant
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RoutingTable(BaseModel):
    """What serves: a champion, and perhaps a challenger with a share of the traffic or in its shadow; or an experiment.

    Attributes:
        challenger_share: Share of units that the challenger answers.
        shadow: The challenger also sees the champion's requests; its answers are recorded and not returned.
        stage: Name of the rollout stage, empty outside of one.
        rollout: Identifies the rollout or experiment; also salts the hash, so that each draws its own units.
        arms: The variants of an experiment, the champion first; empty outside of one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: Variant
    challenger: Variant | None = None
    challenger_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    shadow: bool = False
    stage: str = ""
    rollout: str = ""
    arms: tuple[Arm, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> RoutingTable:
        if self.challenger is None and (self.challenger_share or self.shadow):
            raise ValueError("a share or a shadow needs a challenger")
        if self.shadow and self.challenger_share:
            raise ValueError("a challenger in the shadow answers nobody")
        if self.arms:
            self._check_arms()
        return self

    def _check_arms(self) -> None:
        if self.challenger is not None:
            raise ValueError("an experiment names its challengers as arms")
        champion, *others = (arm.variant for arm in self.arms)
        if champion != self.champion or not others or any(other.role is not Role.CHALLENGER for other in others):
            raise ValueError("an experiment has the champion as its first arm, and challengers after it")
        if len({arm.variant.version for arm in self.arms}) < len(self.arms):
            raise ValueError("the arms of an experiment must be different versions")

    @property
    def variants(self) -> tuple[Variant, ...]:
        if self.arms:
            return tuple(arm.variant for arm in self.arms)
        return (self.champion, self.challenger) if self.challenger else (self.champion,)

    @property
    def shares(self) -> dict[str, float]:
        """Version -> share of the units that it answers."""
        if self.arms:
            total = math.fsum(arm.weight for arm in self.arms)
            return {arm.variant.version: arm.weight / total for arm in self.arms}
        if self.challenger is None:
            return {self.champion.version: 1.0}
        return {self.champion.version: 1.0 - self.challenger_share, self.challenger.version: self.challenger_share}


def unit_point(salt: str, unit: str) -> float:
    """The point of `unit` in [0, 1): the first 53 bits of sha256(salt, unit)."""
    digest = hashlib.sha256(f"{salt}\0{unit}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def assign(table: RoutingTable, unit: str) -> Variant:
    """The variant that answers `unit`."""
    if table.arms:
        return min(table.arms, key=lambda arm: _wait(table.rollout, unit, arm)).variant
    if table.challenger is not None and unit_point(table.rollout, unit) < table.challenger_share:
        return table.challenger
    return table.champion


def _wait(salt: str, unit: str, arm: Arm) -> float:
    """An exponential variate of rate `weight`: of several, each is the smallest in proportion to its weight."""
    return -math.log1p(-unit_point(f"{salt}\0{arm.variant.version}", unit)) / arm.weight
