"""Semantic versions of models, computed. Pure.

* major: what goes in or comes out changed, or what an output means, so clients must change;
* minor: the same questions, better answers: a gated quality metric is better than the champion's with confidence;
* patch: a refresh, trained again and not known to be better.

The first candidate is 1.0.0. Baselines are kept below it: the first is 0.1.0, further ones 0.1.1, 0.1.2. Versions count
on from the highest one given so far, not from the champion: a version names one model, also when that one was rolled
back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from include.errors import WindtunnelError, clip
from include.spec.judging import GateSpec, Operator

_SAID = 400
_UPWARDS = frozenset({Operator.GT, Operator.GTE})
_DOWNWARDS = frozenset({Operator.LT, Operator.LTE})


class VersionError(WindtunnelError):
    """Text that is not a version."""


class Change(str, Enum):
    """What a new version changes for those who use the model."""

    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


class Version(NamedTuple):
    """`major.minor.patch`; compares as semantic versions do."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def bumped(self, change: Change) -> Version:
        if change is Change.MAJOR:
            return Version(self.major + 1, 0, 0)
        if change is Change.MINOR:
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


FIRST = Version(1, 0, 0)
FIRST_BASELINE = Version(0, 1, 0)


def parse_version(text: str) -> Version:
    """`text` as a version. Raises `VersionError`."""
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and str(int(part)) == part for part in parts):
        raise VersionError(f"{text!r} is not a version", hint="versions look like 1.4.0")
    return Version(*(int(part) for part in parts))


def next_version(given: Iterable[str], change: Change) -> str:
    """The version of a new candidate, after all those `given` so far."""
    released = [version for version in map(parse_version, given) if version >= FIRST]
    return str(max(released).bumped(change) if released else FIRST)


def next_baseline(given: Iterable[str]) -> str:
    """The version of a baseline that is about to serve before the first candidate."""
    kept = [version for version in map(parse_version, given) if version < FIRST]
    return str(max(kept).bumped(Change.PATCH) if kept else FIRST_BASELINE)


def classify(
    signature: Mapping[str, Any],
    previous: Mapping[str, Any] | None,
    gates: Sequence[GateSpec],
    against_champion: Mapping[str, Mapping[str, float]],
    *,
    meaning: Mapping[str, str] | None = None,
    meant: Mapping[str, str] | None = None,
) -> tuple[Change, str]:
    """What the candidate changes, and why in one sentence.

    Args:
        signature: Inputs and outputs of the candidate.
        previous: Those of the newest version before it; None for the first.
        gates: The spec's gates: they say which metrics count, and which way is better.
        against_champion: Metric -> paired difference record (`low`, `high`) against the champion; empty without one.
        meaning: Output -> what it says, by the spec now.
        meant: The same for the newest version before. An output that only one of them explains counts as unchanged.
    """
    if previous is not None and signature != previous:
        return Change.MAJOR, f"clients must change: {_differences(previous, signature)}"
    before, now = meant or {}, meaning or {}
    if changed := sorted(name for name in before.keys() & now.keys() if before[name] != now[name]):
        said = "; ".join(f"{name} was {before[name]!r}, is {now[name]!r}" for name in changed)
        return Change.MAJOR, clip(f"what an output means changed: {said}", _SAID)
    for gate in gates:
        found = against_champion.get(gate.metric)
        if found is None:
            continue
        if gate.operator in _UPWARDS and found["low"] > 0.0:
            return Change.MINOR, f"{gate.metric} is better than the champion's by at least {found['low']:.4g}"
        if gate.operator in _DOWNWARDS and found["high"] < 0.0:
            return Change.MINOR, f"{gate.metric} is lower than the champion's by at least {-found['high']:.4g}"
    return Change.PATCH, "a refresh: not known to be better than the champion on any gated metric"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two signatures, such as `outputs: score FP32 -> FP64, more is new`."""
    parts = []
    for side in sorted({*before, *now}):
        was, is_ = before.get(side) or {}, now.get(side) or {}
        changes = [
            f"{name} {was[name]} -> {is_[name]}" for name in sorted(was.keys() & is_.keys()) if was[name] != is_[name]
        ]
        changes += [f"{name} is new" for name in sorted(is_.keys() - was.keys())]
        changes += [f"{name} is gone" for name in sorted(was.keys() - is_.keys())]
        if changes:
            parts.append(f"{side}: {', '.join(changes)}")
    return clip("; ".join(parts), _SAID)
