"""How far the values of a column in two dataset versions are apart, by a distance that fits the kind of values.

| kind | distance | and |
|---|---|---|
| number, date | Wasserstein, in standard deviations of the first version | population stability index |
| category | Jensen-Shannon distance of the shares (0: equal, 1: nothing in common) | population stability index |
| text | Jensen-Shannon distance of the words' shares | Wasserstein of the length in words |
| list | Jensen-Shannon distance of the items' shares | Wasserstein of the number of items |

Jensen-Shannon: J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37 (1991), with the
logarithm to base 2. Stability index and its two marks: N. Siddiqi, "Credit Risk Scorecards" (2006): under 0.1 nothing
moved, over 0.25 much did.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from include.data.records import Record
from include.monitoring.distance import wasserstein

BINS = 10
MAX_CATEGORIES = 50
_TOP = 5_000
_FLOOR = 1e-4  # a share of 0 would make the index infinite; the usual remedy
_WORD = re.compile(r"\w+")

Floats = NDArray[np.float64]


class ColumnKind(str, Enum):
    """What the values of a column are, for the purpose of comparing them."""

    NUMBER = "number"
    CATEGORY = "category"
    TEXT = "text"
    LIST = "list"
    EMPTY = "empty"  # no value in either version


class ColumnDistance(Record):
    """How far a column has moved.

    Attributes:
        distance: See the module; None where a version has no value.
        measure: Which distance that is.
        size_distance: Wasserstein of the length of texts and lists, in standard deviations of the first version.
        psi: Population stability index of numbers and categories.
        empty: Share of rows without a value, before and after.
        before, after: The typical value, in words.
    """

    kind: ColumnKind
    measure: str
    distance: float | None
    size_distance: float | None = None
    psi: float | None = None
    empty: tuple[float, float]
    before: str
    after: str


def compare_columns(before: pa.ChunkedArray, after: pa.ChunkedArray) -> ColumnDistance:
    """The distance of one column in two versions. The columns may have any type, also two different ones."""
    empty = _empty_share(before), _empty_share(after)
    old, new = before.drop_null(), after.drop_null()
    kind = _kind(old, new)
    if kind is ColumnKind.EMPTY or not len(old) or not len(new):
        said = "no value", "no value"
        known = tuple("no value" if not len(side) else f"{len(side)} values" for side in (old, new))
        before_words, after_words = said if kind is ColumnKind.EMPTY else known
        return ColumnDistance(
            kind=kind, measure="none", distance=None, empty=empty, before=before_words, after=after_words
        )
    if kind is ColumnKind.NUMBER:
        left, right = _numbers(old), _numbers(new)
        return ColumnDistance(
            kind=kind, measure="Wasserstein (sd)", distance=wasserstein(left, right), psi=number_psi(left, right),
            empty=empty, before=_spread(left), after=_spread(right),
        )  # fmt: skip
    counts = _counts(old, kind), _counts(new, kind)
    sizes = None if kind is ColumnKind.CATEGORY else wasserstein(_sizes(old, kind), _sizes(new, kind))
    return ColumnDistance(
        kind=kind, measure="Jensen-Shannon", distance=jensen_shannon(*counts), size_distance=sizes,
        psi=category_psi(*counts) if kind is ColumnKind.CATEGORY else None,
        empty=empty, before=_common(counts[0]), after=_common(counts[1]),
    )  # fmt: skip


def jensen_shannon(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """The distance of two histograms, in [0, 1]."""
    from scipy.spatial.distance import jensenshannon

    left, right = _shares(before, after)
    return float(np.clip(jensenshannon(left, right, base=2), 0.0, 1.0))


def number_psi(before: Floats, after: Floats) -> float:
    """The index over `BINS` bins that each hold as much of `before`; values shape (n,) and (m,)."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    left, right = (
        np.bincount(np.searchsorted(edges, side, side="right"), minlength=len(edges) + 1) for side in (before, after)
    )
    return _psi(left / left.sum(), right / right.sum())


def category_psi(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """The index over all values of either side."""
    return _psi(*_shares(before, after))


def _psi(left: Floats, right: Floats) -> float:
    left, right = np.maximum(left, _FLOOR), np.maximum(right, _FLOOR)
    return float(((right - left) * np.log(right / left)).sum())


def _shares(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Floats, Floats]:
    values = sorted(before.keys() | after.keys())
    left, right = (np.array([side.get(value, 0) for value in values], dtype=np.float64) for side in (before, after))
    return left / left.sum(), right / right.sum()


def _kind(old: pa.ChunkedArray, new: pa.ChunkedArray) -> ColumnKind:
    types = [side.type for side in (old, new) if len(side)]
    if not types:
        return ColumnKind.EMPTY
    if all(pa.types.is_list(kind) or pa.types.is_large_list(kind) for kind in types):
        return ColumnKind.LIST
    if all(_is_number(kind) for kind in types):
        return ColumnKind.NUMBER
    distinct = max(pc.count_distinct(side).as_py() for side in (old, new) if len(side))
    return ColumnKind.CATEGORY if distinct <= MAX_CATEGORIES else ColumnKind.TEXT


def _is_number(kind: pa.DataType) -> bool:
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal)
    return any(check(kind) for check in checks)


def _numbers(values: pa.ChunkedArray) -> Floats:
    """As floats; dates in days, moments in seconds, durations in their own unit."""
    if pa.types.is_date(values.type):
        values = pc.cast(values, pa.date32()).cast(pa.int32())
    elif pa.types.is_temporal(values.type):
        values = values.cast(pa.int64())
    found = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    return found[np.isfinite(found)] if np.isfinite(found).any() else np.zeros(1)


def _counts(values: pa.ChunkedArray, kind: ColumnKind) -> dict[str, int]:
    found: Counter[str] = Counter()
    if kind is ColumnKind.TEXT:
        for text in values.to_pylist():
            found.update(_WORD.findall(str(text).casefold()))
    elif kind is ColumnKind.LIST:
        for items in values.to_pylist():
            found.update(str(item) for item in items)
    else:
        found.update(str(value) for value in values.to_pylist())
    return dict(found.most_common(_TOP)) if found else {"": 1}


def _sizes(values: pa.ChunkedArray, kind: ColumnKind) -> Floats:
    sizes: Iterable[int]
    if kind is ColumnKind.TEXT:
        sizes = (len(_WORD.findall(str(text))) for text in values.to_pylist())
    else:
        sizes = (len(items) for items in values.to_pylist())
    return np.fromiter(sizes, dtype=np.float64)


def _empty_share(values: pa.ChunkedArray) -> float:
    return values.null_count / len(values) if len(values) else 0.0


def _spread(values: Floats) -> str:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]"


def _common(counts: Mapping[str, int]) -> str:
    top: Sequence[tuple[str, Any]] = sorted(counts.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{value[:24]} {count}" for value, count in top)
