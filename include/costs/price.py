"""Seconds of processor, memory and accelerator, and their price. Pure.

A price of 0 is an unknown one. Where no price is known, or none for the kind of GPU that was used, money is None and is
shown as `n/a`: a sum with a hole in it is no sum. A price list that charges by the GPU alone leaves the others at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from include.spec.costs import PricesSpec
from include.spec.quantities import cores, gibibytes
from include.spec.resources import ResourcesSpec

_HOUR = 3600.0


@dataclass(frozen=True)
class Usage:
    """Seconds times cores, GiB of memory, and GPUs."""

    cpu_seconds: float = 0.0
    gib_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu_seconds + other.cpu_seconds,
            self.gib_seconds + other.gib_seconds,
            self.gpu_seconds + other.gpu_seconds,
        )


def asked_for(resources: ResourcesSpec, seconds: float) -> Usage:
    """What a pod of these resources keeps from others in that time."""
    return Usage(cores(resources.cpu) * seconds, gibibytes(resources.memory) * seconds, resources.gpu * seconds)


def used_by(resources: ResourcesSpec, attempt: Mapping[str, Any]) -> Usage:
    """What an attempt used, as far as it was measured: `seconds`, `cpu_seconds`, `peak_bytes` (None: not measured).

    Memory is the largest process's peak, taken for the whole time. A GPU belongs to its pod alone.
    """
    seconds, peak = float(attempt.get("seconds") or 0.0), float(attempt.get("peak_bytes") or 0.0)
    return Usage(float(attempt.get("cpu_seconds") or 0.0), peak / 2**30 * seconds, resources.gpu * seconds)


def money(usage: Usage, prices: PricesSpec, gpu_kind: str | None) -> float | None:
    """The price of `usage` in the currency of `prices`; None where it is not known."""
    if not prices.known:
        return None
    gpu = prices.gpu_hour.get(gpu_kind or "any") or prices.gpu_hour.get("any") or 0.0
    if usage.gpu_seconds and not gpu:
        return None
    hours = usage.cpu_seconds * prices.cpu_hour + usage.gib_seconds * prices.gib_hour + usage.gpu_seconds * gpu
    return hours / _HOUR


def cost_record(resources: ResourcesSpec, runner: str, attempts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What a step cost over all its tries, for its result.

    A Kubernetes pod is charged for what it asked for, because nobody else could have it; a local process for what it
    used. `basis` says which.
    """
    tries, seconds, asked, used = 0, 0.0, Usage(), Usage()
    for attempt in attempts:
        tries += 1
        seconds += float(attempt.get("seconds") or 0.0)
        asked += asked_for(resources, float(attempt.get("seconds") or 0.0))
        used += used_by(resources, attempt)
    basis = "asked" if runner == "kubernetes" else "used"
    amount = money(asked if basis == "asked" else used, resources.prices, resources.gpu_kind)
    return {
        "tries": tries,
        "seconds": round(seconds, 3),
        "asked": _rounded(asked),
        "used": _rounded(used),
        "gpu_kind": resources.gpu_kind,
        "basis": basis,
        "money": amount,
        "currency": resources.prices.currency if amount is not None else None,
    }


def total(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of cost records. Money is None where one of them has none, or where they are in different currencies."""
    found = [record for record in records if record]
    currencies = {record["currency"] for record in found}
    known = bool(found) and None not in currencies and len(currencies) == 1
    return {
        "tries": sum(record["tries"] for record in found),
        "seconds": round(sum(record["seconds"] for record in found), 3),
        "asked": _rounded(sum((Usage(**record["asked"]) for record in found), Usage())),
        "used": _rounded(sum((Usage(**record["used"]) for record in found), Usage())),
        "money": sum(record["money"] for record in found) if known else None,
        "currency": currencies.pop() if known else None,
    }


def price_text(record: Mapping[str, Any]) -> str:
    """`12.34 EUR`, `0.00123 EUR`, or `n/a` where it is not known."""
    amount = record.get("money")
    if amount is None:
        return "n/a"
    return f"{amount:.2f} {record['currency']}" if amount >= 1 or amount == 0 else f"{amount:.3g} {record['currency']}"


def _rounded(usage: Usage) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(usage).items()}
