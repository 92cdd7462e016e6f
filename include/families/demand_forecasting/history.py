"""The hours of a dataset as examples: each with the rentals of the days before it, taken from the whole series.

An hour without the history that a forecast needs (those of the first eight days, and those a day, two days or a week
after a gap) is no example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import DataError
from include.families.contract import DatasetView
from include.families.demand_forecasting.features import DAY, INPUTS, LAGS, MEAN, WEEK
from include.families.demand_forecasting.schema import HOURS, WEATHERS, day_of

_EPOCH = datetime(2000, 1, 1)
_FROM_HISTORY = frozenset({*LAGS.values(), MEAN})


@dataclass(frozen=True)
class Forecasts:
    """Examples of one split, in the order of time.

    Attributes:
        inputs: Input name -> value per example, as a request holds them.
        rentals: The truth, shape (n,).
    """

    ids: list[str]
    inputs: Mapping[str, list[Any]]
    rentals: NDArray[np.float64]

    def request(self, index: int) -> dict[str, Any]:
        """The inputs of one example."""
        return {name: values[index] for name, values in self.inputs.items()}


def forecasts(dataset: DatasetView, split: str) -> Forecasts:
    """The examples of a split. Raises `DataError` where there is none."""
    history = _history(dataset.table(HOURS).select(["day", "hour", "rentals"]).to_pylist())
    rows = dataset.table(HOURS, split).to_pylist()
    found = [(hour_number(row), row) for row in rows]
    found = sorted((pair for pair in found if history.has(pair[0])), key=lambda pair: pair[0])
    if not found:
        raise DataError("no hour has the rentals of the week before it", where=f"{HOURS}, {split}")
    numbers = np.array([number for number, _ in found])
    own = {name: [_value(name, row) for _, row in found] for name in INPUTS if name not in _FROM_HISTORY}
    past = {name: history.rentals[numbers - history.first - lag].tolist() for lag, name in LAGS.items()}
    means = {MEAN: history.means[numbers - history.first].round(3).tolist()}
    return Forecasts(
        ids=[str(row["hour_id"]) for _, row in found],
        inputs={name: {**own, **past, **means}[name] for name in INPUTS},
        rentals=np.array([row["rentals"] for _, row in found], dtype=np.float64),
    )


def hour_number(row: Mapping[str, Any]) -> int:
    """Hours since 2000. Raises `DataError` for a day that is no date."""
    day = day_of(row["day"])
    if day is None:
        raise DataError(f"{row['day']!r} is no date", where=HOURS)
    return int((datetime(day.year, day.month, day.day, row["hour"]) - _EPOCH).total_seconds()) // 3600


@dataclass(frozen=True)
class _History:
    """Rentals by the hour from `first` on, NaN in gaps; and for every hour the mean of the week up to a day before."""

    first: int
    rentals: NDArray[np.float64]
    means: NDArray[np.float64]

    def has(self, number: int) -> bool:
        """Whether all that a forecast for this hour needs is known."""
        place = number - self.first
        return place >= WEEK + DAY and all(np.isfinite(self.rentals[place - lag]) for lag in LAGS)


def _history(rows: list[dict[str, Any]]) -> _History:
    known = {hour_number(row): row["rentals"] for row in rows}
    if not known:
        raise DataError("there is no hour in the dataset", where=HOURS)
    first, last = min(known), max(known)
    rentals = np.full(last - first + 1, np.nan)
    for number, value in known.items():
        rentals[number - first] = value
    sums = np.concatenate([[0.0], np.nancumsum(rentals)])
    counts = np.concatenate([[0], np.cumsum(np.isfinite(rentals))])
    ends = np.maximum(np.arange(len(rentals)) - DAY + 1, 0)  # after the last hour of the week
    starts = np.maximum(ends - WEEK, 0)
    seen = counts[ends] - counts[starts]
    return _History(first, rentals, (sums[ends] - sums[starts]) / np.maximum(seen, 1))


def _value(name: str, row: Mapping[str, Any]) -> Any:
    return WEATHERS[row["weather"]] if name == "weather" else row[name]
