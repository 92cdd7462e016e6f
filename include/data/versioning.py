"""The version of a dataset: semver computed from what changed. Pure.

| part  | when |
|---|---|
| major | another source, schema or split, or a new domain: figures of before and after cannot be compared |
| minor | a table grew or shrank by more than `GROWTH` |
| patch | anything else that changed the content |

The first version is 1.0.0.

A domain is a value of one of the family's slices (a document, a region, a product) that holds at least `DOMAIN_SHARE`
of the examples: a stray row is no new world. Once recognised it stays known, so that a domain that shrinks to under the
share and grows back is not new a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from include.release import versioning as semver
from include.release.versioning import parse_version

GROWTH = 0.10
DOMAIN_SHARE = 0.01
_NAMED = 5


class Level(str, Enum):
    """Which part of the version a change raises."""

    FIRST = "first"
    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


_PARTS = {Level.MAJOR: semver.Change.MAJOR, Level.MINOR: semver.Change.MINOR, Level.PATCH: semver.Change.PATCH}


@dataclass(frozen=True)
class Shape:
    """What the rule looks at.

    Attributes:
        source: Id of the source.
        schemas: Table -> its columns with their types, such as `("question: string", ...)`.
        rows: Table -> number of rows.
        split: How examples are divided, in words; equal words, equal division.
        domains: Slice -> domains that are known up to and with this version (see `known_domains`).
    """

    source: str
    schemas: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, int]
    split: str
    domains: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What a new version is called, and why."""

    version: str
    level: Level
    reason: str


def known_domains(
    counts: Mapping[str, Mapping[str, int]], before: Mapping[str, frozenset[str]] | None = None
) -> dict[str, frozenset[str]]:
    """Slice -> the domains of `before`, and those that have their share of the examples now.

    Args:
        counts: Slice -> value -> examples that have it.
        before: What was known of the version before; None for the first.
    """
    known: dict[str, frozenset[str]] = {}
    for name, values in counts.items():
        least = DOMAIN_SHARE * sum(values.values())
        known[name] = frozenset(value for value, rows in values.items() if rows >= least) | (before or {}).get(
            name, frozenset()
        )
    return known


def next_version(parent: str | None, before: Shape | None, after: Shape) -> Change:
    """The version that follows `parent`, whose content had the shape `before`. Both are None for the first."""
    if parent is None or before is None:
        return Change(str(semver.FIRST), Level.FIRST, "the first version of this family's data")
    level, reason = _level(before, after)
    return Change(str(parse_version(parent).bumped(_PARTS[level])), level, reason)


def _level(before: Shape, after: Shape) -> tuple[Level, str]:
    if before.source != after.source:
        return Level.MAJOR, f"the rows come from {after.source!r}; before it was {before.source!r}"
    if before.schemas != after.schemas:
        return Level.MAJOR, f"the schema changed: {_schema_change(before.schemas, after.schemas)}"
    if before.split != after.split:
        return Level.MAJOR, f"examples are divided otherwise: {after.split}; before it was {before.split}"
    new = {
        name: sorted(values - before.domains[name]) for name, values in after.domains.items() if name in before.domains
    }
    if any(new.values()):
        return Level.MAJOR, "; ".join(f"new in {name}: {_listed(values)}" for name, values in new.items() if values)
    growth = {name: (rows - before.rows[name]) / max(before.rows[name], 1) for name, rows in after.rows.items()}
    table, share = max(growth.items(), key=lambda item: abs(item[1]))
    words = f"{table} {'grew' if share >= 0 else 'shrank'} by {abs(share):.1%} to {after.rows[table]} rows"
    if abs(share) > GROWTH:
        return Level.MINOR, words
    return Level.PATCH, words if share else "rows were corrected; their number is the same"


def _schema_change(before: Mapping[str, tuple[str, ...]], after: Mapping[str, tuple[str, ...]]) -> str:
    old = {f"{table}.{column}" for table, columns in before.items() for column in columns}
    new = {f"{table}.{column}" for table, columns in after.items() for column in columns}
    parts = [
        f"added {', '.join(sorted(new - old))}" if new - old else "",
        f"removed {', '.join(sorted(old - new))}" if old - new else "",
    ]
    return "; ".join(part for part in parts if part) or "the order of the columns"


def _listed(values: list[str]) -> str:
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return f"{', '.join(values[:_NAMED])}{more}"
