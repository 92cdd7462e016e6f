"""Kubernetes' quantities: `500m` of a core, `8Gi` of memory.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"^(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
_FACTORS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip


def amount(text: str) -> float:
    """The quantity as a number.

    Raises:
        ValueError: It is none.
    """
    match = _NUMBER.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity; write cores as 2 or 500m, bytes as 8Gi or 512Mi")
    return float(match[1]) * _FACTORS[match[2] or ""]


def cores(text: str) -> float:
    """Cores of a `cpu` quantity."""
    return amount(text)


def gibibytes(text: str) -> float:
    """GiB of a `memory` quantity."""
    return amount(text) / 2**30
