"""Which side of a split an example belongs to. Pure.

A value is hashed to a point in [0, 1) that does not depend on any other row, so an example stays where it is when data
grows, is corrected or is read in another order, and examples that share the value stay together. Kinds of split that
need exact shares use the rank of that point instead (`rank_points`); time series use cuts in time.

A row is stored with a *mark*: `train`, `validation`, `test`; in k-fold `fold_0`, `fold_1`, ... and `test`; in a time
series `period_0` (the first training period), `period_1`, ... (the windows), each with its `period_0_gap`, and `test`.
`marks_of` says which marks make up the training, validation and test examples of a fold.

scikit-learn's splitters are not used: they deal about half of the test rows anew when some are added, and the model
that serves would be tested on what it learned from. The tests hold these rules against them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

from include.spec.splits import NearDuplicates, SplitKind, SplitSpec

TRAIN, VALIDATION, TEST = "train", "validation", "test"
GAP = "_gap"

#: Kinds in which a row's own value decides, without regard to other rows.
_BY_VALUE = frozenset({SplitKind.HOLD_OUT, SplitKind.K_FOLD})


def split_point(seed: int, value: str) -> float:
    """The point of `value` in [0, 1): the first 53 bits of sha256(seed, value)."""
    digest = hashlib.sha256(f"{seed}\0{value}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def mark_at(split: SplitSpec, point: float) -> str:
    """The mark of what stands at `point` in [0, 1)."""
    if split.kind is SplitKind.K_FOLD:
        share = 1.0 - split.test
        return TEST if point >= share else f"fold_{min(int(point / share * split.folds), split.folds - 1)}"
    if point < split.train:
        return TRAIN
    return VALIDATION if point < split.train + split.validation else TEST


def split_of(split: SplitSpec, value: object) -> str:
    """The mark of examples with `value` in the column `split.by`, where a value alone decides."""
    return mark_at(split, split_point(split.seed, str(value)))


def split_column(split: SplitSpec, values: Iterable[object]) -> list[str | None]:
    """The mark of every value as far as it alone decides; None where the whole set must be looked at."""
    if not decided_by_value(split):
        return [None for _ in values]
    return [split_of(split, value) for value in values]


def decided_by_value(split: SplitSpec) -> bool:
    """Whether a row's own value says where it goes."""
    return split.kind in _BY_VALUE and split.stratify is None


def rank_points(points: Sequence[float], weights: Sequence[int], strata: Sequence[Hashable]) -> list[float]:
    """For every item the middle of its place in [0, 1) when the items of its stratum stand side by side.

    Args:
        points: Where an item would stand by its hash; gives the order.
        weights: Rows of an item; its width.
        strata: Items of one stratum share [0, 1).
    """
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for item, stratum in enumerate(strata):
        members[stratum].append(item)
    places = [0.0] * len(points)
    for items in members.values():
        total, before = sum(weights[item] for item in items), 0
        for item in sorted(items, key=lambda item: (points[item], item)):
            places[item] = (before + weights[item] / 2) / total
            before += weights[item]
    return places


def marks_in_order(kind: SplitKind, folds: int) -> list[str]:
    """All marks, those nearest to training first."""
    if kind is SplitKind.K_FOLD:
        return [*(f"fold_{number}" for number in range(folds)), TEST]
    if kind is SplitKind.TIME_SERIES:
        periods = [f"period_{number}" for number in range(folds + 1)]
        return [*(mark for period in periods for mark in (period, period + GAP)), TEST]
    return [TRAIN, VALIDATION, TEST]


def marks_of(kind: SplitKind, folds: int, fold: int, name: str) -> frozenset[str]:
    """The marks of the rows that are `name` (train, validation, test, or a mark itself) when `fold` validates.

    Raises:
        KeyError: There is no such split.
    """
    known = marks_in_order(kind, folds)
    if kind is SplitKind.K_FOLD:
        sides = {VALIDATION: {f"fold_{fold}"}, TRAIN: {mark for mark in known if mark not in {TEST, f"fold_{fold}"}}}
    elif kind is SplitKind.TIME_SERIES:
        window = f"period_{fold + 1}"
        before = {mark for mark in known[: known.index(window)] if mark != f"period_{fold}{GAP}"}
        sides = {VALIDATION: {window} if fold == folds - 1 else {window, window + GAP}, TRAIN: before}
    else:
        sides = {}
    if name not in sides and name not in known:
        raise KeyError(name)
    return frozenset(sides.get(name, {name}))


def describe_split(split: SplitSpec) -> str:
    """How examples are divided, in words; equal words, equal division."""
    words = describe_own_split(split)
    text = split.leakage.text
    if text and split.near_duplicates is NearDuplicates.TOGETHER:
        words += f"; near-duplicates of {' and '.join(text)} together from {split.leakage.threshold:g}"
    return words


def describe_own_split(split: SplitSpec) -> str:
    """The part of `describe_split` that does not look at texts."""
    shares = f"{split.train:g}/{split.validation:g}/{split.test:g}"
    stratified = f", stratified by {split.stratify}" if split.stratify else ""
    match split.kind:
        case SplitKind.HOLD_OUT:
            return f"{shares} by {split.by}, seed {split.seed}"
        case SplitKind.K_FOLD:
            return f"{split.folds} folds beside {split.test:g} by {split.by}{stratified}, seed {split.seed}"
        case SplitKind.STRATIFIED:
            return f"{shares} by {split.by}{stratified}, seed {split.seed}"
        case SplitKind.GROUP:
            return f"{shares} in whole groups of {split.by}, seed {split.seed}"
        case SplitKind.TIME_SERIES:
            windows = f", {split.folds} windows" if split.folds > 1 else ""
            return f"{shares} in the order of {split.by}{windows}, gap {split.gap:g}"
