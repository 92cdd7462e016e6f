"""How a person names a thing whose lineage is asked for. Pure.

| text | means |
|---|---|
| `compliance_qa@1.2.0` | a registered model version |
| `compliance_qa:data@2.0.0` | a dataset version |
| `compliance_qa:delivery@2026-10-12` | a delivery, by its name; with several sources also `rulebook.2026-10-12` |
| `compliance_qa` | the model version that serves |
| `compliance_qa:data` | the newest dataset version |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from include.errors import UserError

_PATTERN = re.compile(r"(?P<family>[a-z][a-z0-9_]*)(?::(?P<kind>[a-z]+))?(?:@(?P<name>[^\s@]+))?")
EXAMPLES = "compliance_qa@1.2.0 (model), compliance_qa:data@2.0.0 (dataset), compliance_qa:delivery@2026-10-12"


class Kind(str, Enum):
    """What can be asked for."""

    MODEL = "model"
    DATA = "data"
    DELIVERY = "delivery"


@dataclass(frozen=True)
class Reference:
    """A parsed reference; `name` None means the one in use."""

    family: str
    kind: Kind
    name: str | None


def parse_reference(text: str, default: Kind = Kind.MODEL) -> Reference:
    """`text` as a reference; without a kind it means `default`.

    Raises:
        UserError: It is none.
    """
    match = _PATTERN.fullmatch(text)
    known = [kind.value for kind in Kind]
    if match is None or (match["kind"] and match["kind"] not in known):
        raise UserError(f"{text!r} names nothing", hint=f"use FAMILY[:KIND]@NAME, such as {EXAMPLES}")
    kind = Kind(match["kind"]) if match["kind"] else default
    if kind is Kind.DELIVERY and match["name"] is None:
        raise UserError(f"{text!r} does not say which delivery", hint=f"such as {match['family']}:delivery@2026-10-12")
    return Reference(match["family"], kind, match["name"])
