"""Who answers whom: the routing table of a family, and the assignment of units to variants. Pure.

A unit (a user, a session) is hashed to a point in [0, 1). The challenger owns [0, w) and the champion the rest, so that
a unit that came to the challenger at 5% is still there at 50%: assignment is sticky while a rollout only grows.
"""

from __future__ import annotations

import hashlib
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


class RoutingTable(BaseModel):
    """What serves: a champion, and perhaps a challenger with a share of the traffic or in its shadow.

    Attributes:
        challenger_share: Share of units that the challenger answers.
        shadow: The challenger also sees the champion's requests; its answers are recorded and not returned.
        stage: Name of the rollout stage, empty outside of one.
        rollout: Identifies the rollout; also salts the hash, so that each rollout draws its own 5%.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: Variant
    challenger: Variant | None = None
    challenger_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    shadow: bool = False
    stage: str = ""
    rollout: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> RoutingTable:
        if self.challenger is None and (self.challenger_share or self.shadow):
            raise ValueError("a share or a shadow needs a challenger")
        if self.shadow and self.challenger_share:
            raise ValueError("a challenger in the shadow answers nobody")
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        return (self.champion, self.challenger) if self.challenger else (self.champion,)


def unit_point(salt: str, unit: str) -> float:
    """The point of `unit` in [0, 1): the first 53 bits of sha256(salt, unit)."""
    digest = hashlib.sha256(f"{salt}\0{unit}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def assign(table: RoutingTable, unit: str) -> Variant:
    """The variant that answers `unit`."""
    if table.challenger is not None and unit_point(table.rollout, unit) < table.challenger_share:
        return table.challenger
    return table.champion
