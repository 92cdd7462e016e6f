"""Divides the rows of a version, and refuses to continue where the same example is on two sides.

What a row's own value decides (`include.data.splits`) is stored with the row. What only the whole set can decide is
decided here, before a version is named: shares that must be exact, cuts in time, and near-duplicates, which go together
to the side of the first of them. Rows whose mark is not the stored one are listed in a small table of their own that
the manifest names, so that a row is never rewritten because another one came.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.data.leakage import LeakageReport, Twins, find_twins, require_apart, require_groups_whole
from include.data.splits import (
    GAP,
    TEST,
    decided_by_value,
    mark_at,
    marks_in_order,
    rank_points,
    split_column,
    split_point,
)
from include.data.timeline import cuts_in_time, times_of
from include.errors import DataError, UserError
from include.spec.splits import NearDuplicates, SplitKind, SplitSpec


@dataclass(frozen=True)
class Division:
    """The mark of every row, in the order of the rows.

    Attributes:
        moved: Whether a mark is not the one that the row's own value gives.
        cuts: Of a time series: the first value of `by` of every period after the first, and of the test rows.
        report: What the comparison of texts found; None where none was asked for.
    """

    marks: list[str]
    moved: list[bool]
    cuts: list[str]
    report: LeakageReport | None


def columns_to_divide(split: SplitSpec) -> list[str]:
    """The columns that `divide` needs beside the key."""
    named = [split.by, split.stratify, *split.leakage.text, *split.leakage.groups, "delivered_on", "delivery"]
    return list(dict.fromkeys(name for name in named if name))


def looks_at_all(split: SplitSpec) -> bool:
    """Whether rows must be looked at together; else every row's stored mark is right."""
    return not decided_by_value(split) or bool(split.leakage.text or split.leakage.groups)


def divide(split: SplitSpec, rows: pa.Table, key: str) -> Division:
    """The division of `rows`, which hold `key` and `columns_to_divide`; it does not depend on their order.

    Raises:
        UserError: The table has no such column.
        DataError: Near-duplicates, a group or the order of time is on two sides; a side that should have rows has none.
    """
    missing = [name for name in columns_to_divide(split) if name not in rows.column_names]
    if missing:
        raise UserError(f"the table {split.table!r} has no column {missing[0]!r}", where="split", hint="name another")
    order = pc.sort_indices(rows, [("delivered_on", "ascending"), ("delivery", "ascending"), (key, "ascending")])
    ordered = rows.take(order)
    own = split_column(split, ordered.column(split.by).to_pylist())
    twins = find_twins(split.leakage, ordered)
    cuts: list[str] = []
    if split.kind is SplitKind.TIME_SERIES:
        marks, cuts = cuts_in_time(split, ordered.column(split.by))
    else:
        together = twins if split.near_duplicates is NearDuplicates.TOGETHER else Twins.none()
        marks = _marks(split, ordered, own, together)
    _require_rows(split, marks)
    _require_order(split, ordered, marks)
    sides = [mark.removesuffix(GAP) for mark in marks]
    keys = ordered.column(key).to_pylist()
    if split.near_duplicates is not NearDuplicates.ALLOW:
        require_apart(split, twins, sides, keys)
    for column in split.leakage.groups:
        require_groups_whole(split, column, ordered.column(column).to_pylist(), sides)
    report = twins.report(split, own, sides) if split.leakage.text else None
    places = np.empty(len(marks), dtype=np.int64)
    places[np.asarray(order)] = np.arange(len(marks))
    in_place = [marks[place] for place in places]
    own_in_place = [own[place] for place in places]
    return Division(in_place, [a != b for a, b in zip(in_place, own_in_place, strict=True)], cuts, report)


def _marks(split: SplitSpec, rows: pa.Table, own: Sequence[str | None], twins: Twins) -> list[str]:
    """Marks by value or by rank; rows that share `by` or are `twins` get the same one."""
    values = [str(value) for value in rows.column(split.by).to_pylist()]
    numbers: dict[str, int] = {}
    units = [numbers.setdefault(value, len(numbers)) for value in values]  # in the order of their first rows
    cluster, founder = twins.clusters(units, len(numbers))
    names = list(numbers)
    if decided_by_value(split):
        rank = {mark: place for place, mark in enumerate(marks_in_order(split.kind, split.folds))}
        by_unit = dict(zip(units, own, strict=True))
        first: dict[int, str] = {}
        for unit in founder:
            mark = by_unit[unit]
            assert mark is not None
            first[cluster[unit]] = min(first.get(cluster[unit], mark), mark, key=rank.__getitem__)
        return [first[cluster[unit]] for unit in units]
    count = max(cluster) + 1 if cluster else 0
    points = [1.0] * count
    for unit in founder:
        points[cluster[unit]] = min(points[cluster[unit]], split_point(split.seed, names[unit]))
    weights = Counter(cluster[unit] for unit in units)
    places = rank_points(points, [weights[c] for c in range(count)], _strata(split, rows, units, cluster, count))
    return [mark_at(split, places[cluster[unit]]) for unit in units]


def _strata(
    split: SplitSpec, rows: pa.Table, units: Sequence[int], cluster: Sequence[int], count: int
) -> Sequence[str]:
    """The stratum of every cluster: the value that most of its rows have."""
    if split.stratify is None:
        return [""] * count
    values: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for unit, value in zip(units, rows.column(split.stratify).to_pylist(), strict=True):
        values[cluster[unit]][str(value)] += 1
    return [min(values[c].items(), key=lambda item: (-item[1], item[0]))[0] for c in range(count)]


def _require_rows(split: SplitSpec, marks: Sequence[str]) -> None:
    """Kinds with exact shares must not leave a side empty: there it is a mistake, and not chance."""
    if decided_by_value(split) or not marks:
        return
    shares = {"train": split.train, "validation": split.validation, TEST: split.test}
    wanted = [
        mark
        for mark in marks_in_order(split.kind, split.folds)
        if shares.get(mark, 1.0) and not mark.endswith(GAP)
        if split.kind is not SplitKind.TIME_SERIES or split.validation or not mark.startswith("period_1")
    ]
    empty = [mark for mark in wanted if mark not in set(marks)]
    if empty:
        raise DataError(
            f"{', '.join(empty)} would have no row: there are too few values of {split.by!r} for the shares",
            where=f"split of {split.table}",
            hint="give more data, other shares or fewer folds",
        )


def _require_order(split: SplitSpec, rows: pa.Table, marks: Sequence[str]) -> None:
    """What is learned from must lie before what judges: checked on the outcome, whatever made it."""
    if split.kind is not SplitKind.TIME_SERIES:
        return
    times, unit = times_of(split, rows.column(split.by))
    sides = np.asarray([mark.removesuffix(GAP) for mark in marks])
    latest = -np.inf
    for mark in marks_in_order(split.kind, split.folds):
        of_mark = times[sides == mark]
        if len(of_mark) and of_mark.min() <= latest:
            raise DataError(f"rows of {mark} are not later than those before it", where=f"{split.table}.{split.by}")
        if len(of_mark):
            latest = of_mark.max()
    judged = {mark.removesuffix(GAP) for mark in marks} - {"period_0"}
    for mark in sorted(judged):
        start = times[sides == mark].min()
        before = times[(times < start) & ~np.char.endswith(np.asarray(marks, dtype=str), GAP)]
        if len(before) and split.gap and start - before.max() < split.gap * unit:
            raise DataError(f"the gap before {mark} is too short", where=f"{split.table}.{split.by}")
