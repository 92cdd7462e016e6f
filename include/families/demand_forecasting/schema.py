"""The table of the family: one row per hour of the bicycle rental of Washington, D.C., 2011 and 2012.

Fanaee-T, Gama: Event labeling combining ensemble detectors and background knowledge, Progress in Artificial
Intelligence, 2013; UCI Machine Learning Repository, doi:10.24432/C5W894. The source gives readings as shares of their
range: the temperature of -8 to 39 degrees Celsius, what it feels like of -16 to 50, humidity of 0 to 100%, wind of 0 to
67 km/h.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache

import pyarrow as pa

HOURS = "hours"
FIRST_YEAR = 2011  # the source's year 0

SEASONS: Mapping[int, str] = {1: "winter", 2: "spring", 3: "summer", 4: "autumn"}
WEATHERS: Mapping[int, str] = {1: "clear or few clouds", 2: "mist or clouds", 3: "light rain or snow", 4: "heavy rain"}


def temperature_celsius(share: float) -> float:
    """The temperature that a share of its range stands for."""
    return -8.0 + share * 47.0


def feels_like_celsius(share: float) -> float:
    """What the temperature feels like, from a share of its range."""
    return -16.0 + share * 66.0


@lru_cache(maxsize=4096)
def day_of(text: str | None) -> date | None:
    """The date that is written as 2011-01-31 or 1/31/11; None for anything else."""
    for form in ("%Y-%m-%d", "%m/%d/%y"):
        try:
            return datetime.strptime(text or "", form).date()
        except ValueError:
            continue
    return None


SCHEMAS: Mapping[str, pa.Schema] = {
    HOURS: pa.schema(
        [
            pa.field("hour_id", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),  # the order of time
            pa.field("day", pa.string(), nullable=False),  # as the source writes it: 2011-01-31 or 1/31/11
            pa.field("hour", pa.int64(), nullable=False),  # 0 to 23
            pa.field("year", pa.int64(), nullable=False),  # 0 is 2011
            pa.field("month", pa.int64(), nullable=False),
            pa.field("season", pa.int64(), nullable=False),
            pa.field("weekday", pa.int64(), nullable=False),  # 0 is Sunday
            pa.field("holiday", pa.bool_(), nullable=False),
            pa.field("working_day", pa.bool_(), nullable=False),
            pa.field("weather", pa.int64(), nullable=False),
            pa.field("temperature", pa.float64(), nullable=False),
            pa.field("feels_like", pa.float64(), nullable=False),
            pa.field("humidity", pa.float64(), nullable=False),
            pa.field("wind_speed", pa.float64(), nullable=False),
            pa.field("casual", pa.int64(), nullable=False),  # rentals without a subscription
            pa.field("registered", pa.int64(), nullable=False),
            pa.field("rentals", pa.int64(), nullable=False),
        ]
    )
}
