"""What must not be on both sides of a split: near-duplicates and groups, found, kept together or refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from include.data.neighbours import Pairs, near_duplicates
from include.errors import DataError
from include.spec.splits import LeakageSpec, SplitSpec

NAMED = 20
_NONE = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), 0)


class LeakageError(DataError):
    """The same example is on two sides. `fields["pairs"]` or `fields["groups"]` name the first of them."""


class LeakageReport(BaseModel):
    """What the comparison of texts found, as it stands in the manifest.

    Attributes:
        rows: Rows whose texts were compared.
        compared: Pairs that were compared exactly; all others have too little in common to be found alike.
        same: Pairs of rows with the same text. near: Near-duplicate pairs, those with the same text included.
        clusters: Sets of near-duplicates. largest: Rows of the largest.
        apart: Near-duplicate pairs that the values of `by` alone would have put on two sides; None where they do not
            decide.
        crossing: Near-duplicate pairs that are on two sides: not 0 only where the spec allows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: list[str]
    threshold: float
    near_duplicates: str
    rows: int
    compared: int
    same: int
    near: int
    clusters: int
    largest: int
    apart: int | None
    crossing: int


@dataclass(frozen=True)
class Twins:
    """Near-duplicate rows, by number."""

    pairs: Pairs
    rows: int

    @classmethod
    def none(cls) -> Twins:
        return cls(_NONE, 0)

    def clusters(self, units: Sequence[int], count: int) -> tuple[list[int], list[int]]:
        """Joins units (sets of rows) that have near-duplicates.

        Args:
            units: The unit of every row; units are numbered in the order in which they came.
            count: Number of units.

        Returns:
            The cluster of every unit, and the units that are no near-duplicate of one that came before them.
        """
        if not len(self.pairs):
            return list(range(count)), list(range(count))
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        numbers = np.asarray(units)
        first, second = np.sort([numbers[self.pairs.first], numbers[self.pairs.second]], axis=0)
        edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
        _, labels = connected_components(edges, directed=False)
        followers = set(second[first != second].tolist())
        return labels.tolist(), [unit for unit in range(count) if unit not in followers]

    def report(self, split: SplitSpec, own: Sequence[str | None], sides: Sequence[str]) -> LeakageReport:
        """See `LeakageReport`; `own` are the marks that values alone give, `sides` those that count."""
        cluster, _ = self.clusters(range(len(sides)), len(sides))
        sizes = np.bincount(cluster) if cluster else np.zeros(1, np.int64)
        decided = bool(own) and own[0] is not None
        return LeakageReport(
            text=split.leakage.text,
            threshold=split.leakage.threshold,
            near_duplicates=split.near_duplicates.value,
            rows=self.rows,
            compared=self.pairs.compared,
            same=int((self.pairs.similarity >= 1.0).sum()),
            near=len(self.pairs),
            clusters=int((sizes > 1).sum()),
            largest=int(sizes.max()),
            apart=len(self.crossing(own)) if decided else None,
            crossing=len(self.crossing(sides)),
        )

    def crossing(self, marks: Sequence[str | None]) -> list[int]:
        """The pairs whose rows have different marks."""
        ends = zip(self.pairs.first.tolist(), self.pairs.second.tolist(), strict=True)
        return [number for number, (a, b) in enumerate(ends) if marks[a] != marks[b]]


def find_twins(leakage: LeakageSpec, rows: pa.Table) -> Twins:
    """Near-duplicates among the texts of `rows`. Raises `DataError` where too many are alike."""
    if not leakage.text:
        return Twins.none()
    columns = [rows.column(name).to_pylist() for name in leakage.text]
    texts = ["\n".join(str(part) for part in parts if part is not None) for parts in zip(*columns, strict=True)]
    return Twins(near_duplicates(texts, leakage.threshold), len(texts))


def require_apart(split: SplitSpec, twins: Twins, sides: Sequence[str], keys: Sequence[str]) -> None:
    """Raises `LeakageError` where near-duplicates are on two sides."""
    crossing = twins.crossing(sides)
    if not crossing:
        return
    worst = sorted(crossing, key=lambda number: -twins.pairs.similarity[number])[:NAMED]
    named: list[dict[str, Any]] = []
    for number in worst:
        a, b = int(twins.pairs.first[number]), int(twins.pairs.second[number])
        similarity = round(float(twins.pairs.similarity[number]), 3)
        named.append({"keys": [keys[a], keys[b]], "sides": [sides[a], sides[b]], "similarity": similarity})
    shown = "; ".join(
        f"{pair['keys'][0]} ({pair['sides'][0]}) and {pair['keys'][1]} ({pair['sides'][1]}), "
        + ("the same text" if pair["similarity"] >= 1.0 else f"{pair['similarity']:.2f} alike")
        for pair in named[:3]
    )
    columns = " and ".join(split.leakage.text)
    raise LeakageError(
        f"{len(crossing)} pairs with nearly the same {columns} are on two sides of the split: {shown}",
        where=f"split of {split.table}",
        hint="remove one of each at the source, keep them on one side (split.leakage.near_duplicates: together), or "
        "raise split.leakage.threshold if they are different examples",
        pairs=named,
    )


def require_groups_whole(split: SplitSpec, column: str, values: Sequence[object], sides: Sequence[str]) -> None:
    """Raises `LeakageError` where a value of `column` is on two sides; rows without a value belong to no group."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for value, side in zip(values, sides, strict=True):
        if value is not None:
            found[str(value)].add(side)
    broken = {value: sorted(parts) for value, parts in sorted(found.items()) if len(parts) > 1}
    if broken:
        shown = "; ".join(f"{value} ({', '.join(parts)})" for value, parts in list(broken.items())[:3])
        raise LeakageError(
            f"{len(broken)} of {len(found)} values of {column!r} are on two sides of the split: {shown}",
            where=f"split of {split.table}",
            hint=f"divide by that column (kind: group, by: {column}), or take it out of split.leakage.groups",
            groups=dict(list(broken.items())[:NAMED]),
        )
