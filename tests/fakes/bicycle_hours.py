"""Ten weeks of made-up bicycle rentals, as a dataset version: commuters on working days, and more of it all later."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.families.demand_forecasting.schema import HOURS, SCHEMAS

FIRST = date(2011, 5, 2)  # a Monday
DAYS = 70
_BY_HOUR = np.array([3, 2, 1, 1, 2, 6, 25, 60, 90, 40, 35, 40, 50, 48, 45, 50, 75, 120, 100, 60, 40, 30, 18, 9])


class BicycleHours:
    """Satisfies `DatasetView`. `without`: numbers of hours that are not there."""

    def __init__(self, version: str = "1.0.0", without: frozenset[int] = frozenset()) -> None:
        self.version = self.digest = version
        rng = np.random.default_rng(5)
        rows = [_row(number, rng) for number in range(DAYS * 24)]
        schema = SCHEMAS[HOURS].append(pa.field("split", pa.string()))
        self._rows = pa.Table.from_pylist([row for row in rows if int(row["hour_id"]) not in without], schema=schema)

    def table(self, name: str, split: str | None = None) -> pa.Table:
        assert name == HOURS
        return self._rows if split is None else self._rows.filter(pc.equal(self._rows.column("split"), split))


def _row(number: int, rng: np.random.Generator) -> dict[str, Any]:
    day, hour = FIRST + timedelta(days=number // 24), number % 24
    weekday, weather = day.isoweekday() % 7, int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    works = weekday in range(1, 6)
    shape = _BY_HOUR[hour] if works else 20 + 50 * np.exp(-((hour - 14) ** 2) / 20)
    rentals = int(shape * (1 + number / 2000) * {1: 1.0, 2: 0.9, 3: 0.5}[weather] * rng.normal(1, 0.05))
    part = number / (DAYS * 24)
    return {
        "hour_id": str(number), "position": number, "day": day.isoformat(), "hour": hour, "year": 0, "month": day.month,
        "season": 2, "weekday": weekday, "holiday": False, "working_day": works, "weather": weather,
        "temperature": 0.5, "feels_like": 0.5, "humidity": 0.4, "wind_speed": 0.1, "casual": 0, "registered": rentals,
        "rentals": rentals, "split": "train" if part < 0.6 else ("validation" if part < 0.8 else "test"),
    }  # fmt: skip
