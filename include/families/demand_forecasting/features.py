"""What a request holds, and the numbers that the model sees: the same code for training and for serving.

A forecast is made a day ahead. It knows the calendar, the weather (as it was; who forecasts has a weather forecast) and
the rentals up to a day before. The model predicts the hour's rentals as a share of the week's mean, so that what it
learned from a small business holds for a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import DataError
from include.families.demand_forecasting.schema import WEATHERS

#: Hours before the forecast one, and the input that holds the rentals then.
LAGS: Mapping[int, str] = {24: "rentals_day_before", 48: "rentals_two_days_before", 168: "rentals_week_before"}
WEEK, DAY = 168, 24
MEAN = "rentals_week_mean"

#: Name -> Open Inference Protocol datatype. Readings are shares of their range (see `schema`).
INPUTS: Mapping[str, str] = {
    "hour": "INT64",
    "weekday": "INT64",
    "month": "INT64",
    "holiday": "BOOL",
    "working_day": "BOOL",
    "weather": "BYTES",
    "temperature": "FP32",
    "feels_like": "FP32",
    "humidity": "FP32",
    "wind_speed": "FP32",
    **dict.fromkeys([*LAGS.values(), MEAN], "FP32"),
}
#: A Monday morning in June.
EXAMPLE: Mapping[str, Any] = {
    "hour": 8,
    "weekday": 1,
    "month": 6,
    "holiday": False,
    "working_day": True,
    "weather": WEATHERS[1],
    "temperature": 0.6,
    "feels_like": 0.6,
    "humidity": 0.5,
    "wind_speed": 0.2,
    **dict.fromkeys([*LAGS.values(), MEAN], 200.0),
}
_RANGES = {"hour": (0, 23), "weekday": (0, 6), "month": (1, 12)}
_WEATHER_CODES = {name: code for code, name in WEATHERS.items()}
_PLAIN = ("hour", "weekday", "month", "holiday", "working_day")
_READINGS = ("temperature", "feels_like", "humidity", "wind_speed")
_LEAST_MEAN = 1.0

#: Columns of the feature matrix.
COLUMNS = (
    *_PLAIN, "weather", *_READINGS, *(f"{name}_share" for name in LAGS.values()),
    "hour_sin", "hour_cos", "half_day_sin", "half_day_cos", "year_sin", "year_cos",
)  # fmt: skip
WIDTH = len(COLUMNS)


def feature_matrix(inputs: Mapping[str, Sequence[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the model sees, shape (n, WIDTH), and what its shares are of, shape (n,).

    Raises:
        DataError: An input is missing, unknown or out of range.
    """
    for name, (low, high) in _RANGES.items():
        for value in inputs[name]:
            if not low <= value <= high:
                raise DataError(f"{name} is {value}", where=name, hint=f"it must be in {low} to {high}")
    numbers = {name: np.asarray(inputs[name], dtype=np.float64) for name in (*_PLAIN, *_READINGS, *LAGS.values(), MEAN)}
    for name in (*LAGS.values(), MEAN):
        if (numbers[name] < 0).any():
            raise DataError(f"{name} is below 0", where=name, hint="send counts of rentals")
    level = np.maximum(numbers[MEAN], _LEAST_MEAN)
    day, year = 2 * np.pi * numbers["hour"] / DAY, 2 * np.pi * numbers["month"] / 12
    columns = [
        *(numbers[name] for name in _PLAIN),
        np.array([_weather_code(name) for name in inputs["weather"]], dtype=np.float64),
        *(numbers[name] for name in _READINGS),
        *(numbers[name] / level for name in LAGS.values()),
        *(wave(angle) for angle in (day, 2 * day, year) for wave in (np.sin, np.cos)),
    ]
    return np.stack(columns, axis=1).astype(np.float32), level.astype(np.float32)


def _weather_code(name: str) -> int:
    code = _WEATHER_CODES.get(name)
    if code is None:
        known = ", ".join(repr(known) for known in _WEATHER_CODES)
        raise DataError(f"there is no weather {name!r}", where="weather", hint=f"known: {known}")
    return code
