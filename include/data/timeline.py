"""Cuts a table into periods by a column of times. Pure but for Arrow.

A cut never parts rows of one time. Before each cut, `gap` is left to no side: what is learned from must not reach into
the time of what judges it, as it would where a label looks days ahead.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from include.data.splits import GAP, TEST
from include.errors import DataError
from include.spec.splits import SplitSpec

_DAY = 86_400_000_000  # microseconds


def times_of(split: SplitSpec, column: pa.ChunkedArray) -> tuple[NDArray[np.int64] | NDArray[np.float64], int]:
    """The column as numbers, and how many of them make up one unit of `gap` (a day, or 1 where it holds numbers).

    Raises:
        DataError: A value is missing, or is no time.
    """
    where = f"{split.table}.{split.by}"
    if column.null_count:
        raise DataError(f"{column.null_count} rows have no time", where=where, hint="let the suite require one")
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_numpy(), 1
    try:
        moments = pc.cast(column, pa.timestamp("us")) if not pa.types.is_timestamp(kind) else column
        plain = moments.cast(pa.timestamp("us", moments.type.tz), safe=False)
        return plain.cast(pa.int64()).to_numpy(), _DAY
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"not a time: {error}", where=where, hint="name a column of dates, times or numbers") from error


def cuts_in_time(split: SplitSpec, column: pa.ChunkedArray) -> tuple[list[str], list[str]]:
    """The mark of every row, and the value at which each period after the first, and the test rows, begin.

    Raises:
        DataError: The times do not allow these shares, or a gap is longer than a period.
    """
    times, unit = times_of(split, column)
    ordered = np.argsort(times, kind="stable")
    shares = [split.train + split.validation * window / split.folds for window in range(split.folds)]
    names = [f"period_{window + 1}" for window in range(split.folds)] if split.validation else []
    starts = shares[: len(names)] + ([1.0 - split.test] if split.test else [])
    names += [TEST] if split.test else []
    sides = np.full(len(times), "period_0", dtype="<U16")
    cuts, earlier = [], times.min() if len(times) else 0
    for name, share in zip(names, starts, strict=True):
        place = ordered[min(round(share * len(times)), len(times) - 1)] if len(times) else None
        if place is None or times[place] <= earlier:
            raise DataError(
                f"{name} cannot begin after what comes before it: too few different times",
                where=f"{split.table}.{split.by}",
                hint="give more data, other shares or fewer folds",
            )
        earlier = times[place]
        sides[times >= earlier] = name
        cuts.append(str(column[int(place)].as_py()))
        if split.gap:
            _leave_gap(split, name, sides, times, earlier, split.gap * unit)
    return sides.tolist(), cuts


def _leave_gap(split: SplitSpec, name: str, sides: NDArray[np.str_], times: NDArray, cut: float, gap: float) -> None:  # type: ignore[type-arg]
    """Marks the rows of the period before `cut` that lie in its gap."""
    tail = (times >= cut - gap) & (times < cut)
    before = np.unique(sides[times < cut])
    last = sides[times < cut][np.argmax(times[times < cut])]
    if set(np.unique(sides[tail])) - {last} or not (sides[~tail] == last).any():
        raise DataError(
            f"the gap before {name} is longer than the period before it ({', '.join(before[-2:])})",
            where=f"{split.table}.{split.by}",
            hint="make `gap` shorter, or the shares larger",
        )
    sides[tail] = last + GAP
