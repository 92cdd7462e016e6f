"""What the hours of demand_forecasting must satisfy.

Every hour stands in a calendar and a climate, and both can be checked: the date decides year, month, weekday, season
and holiday, and a humidity of zero or a day of one and the same felt temperature is a broken sensor. Gaps in the
series are a warning: nothing is wrong with the hour after one. (Hours without a rental are not in the source at all.)
Gaps and repeated hours are looked for among the rows that are checked together, which are five years of hours.

Imports Great Expectations: see `include.expectations.compliance_qa`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa
from great_expectations.expectations.expectation import Expectation  # noqa: TID253
from pandas.tseries.holiday import Holiday, USFederalHolidayCalendar, nearest_workday

from include.expectations.forms import absent, between, matches, one_of, with_faults
from include.expectations.known import Known
from include.families.demand_forecasting.schema import (
    FIRST_YEAR,
    HOURS,
    SCHEMAS,
    SEASONS,
    WEATHERS,
    day_of,
    feels_like_celsius,
    temperature_celsius,
)

VERSION = "1.0.0"
TABLES = (HOURS,)
BINDING = frozenset({"wrong_key", "no_date", "repeated_hour"})

#: A temperature feels at most this many degrees Celsius colder or warmer than it is; wind chill and heat index of the
#: city's climate stay below 13.
FEELS_APART = 15.0
#: First days of spring, summer, autumn and winter.
SEASON_STARTS = ((3, 21), (6, 21), (9, 23), (12, 21))
READINGS = ("temperature", "feels_like", "humidity", "wind_speed")


def prepare(table: str, rows: pa.Table, known: Known) -> pa.Table:
    """`rows` with the columns that only expectations look at."""
    moments = [_moment(row) for row in rows.select(["day", "hour"]).to_pylist()]
    times = Counter(moments)
    first = min((moment for moment in moments if moment), default=None)
    repeated = [str(moment) if moment and times[moment] > 1 else None for moment in moments]
    alone = [
        str(moment - timedelta(hours=1))
        if moment and moment != first and moment - timedelta(hours=1) not in times
        else None
        for moment in moments
    ]
    rows = with_faults(
        rows,
        SCHEMAS[table],
        {
            "no_date": lambda row: None if day_of(row["day"]) else "no date",
            "wrong_month": _by_date(lambda day, row: (day.year, day.month) == (row["year"] + FIRST_YEAR, row["month"])),
            "wrong_weekday": _by_date(lambda day, row: day.isoweekday() % 7 == row["weekday"]),
            "wrong_season": _by_date(lambda day, row: season_of(day) == row["season"]),
            "wrong_holiday": _by_date(lambda day, row: (day in holidays_of(day.year)) == row["holiday"]),
            "wrong_working_day": _wrong_working_day,
            "reading": lambda row: next((name for name in READINGS if not 0 <= row[name] <= 1), None),
            "dry": lambda row: "zero" if row["humidity"] == 0 else None,
            "feels": _feels_apart,
            "negative": lambda row: next((name for name in ("casual", "registered") if row[name] < 0), None),
            "wrong_sum": _wrong_sum,
        },
    )
    rows = rows.append_column("repeated_hour", pa.array(repeated, pa.string()))
    return rows.append_column("hour_before", pa.array(alone, pa.string()))


def suite(table: str) -> list[Expectation]:
    """The expectations of a table."""
    return [
        matches("hour_id", r"^[1-9]\d*$", "wrong_key", "the hour's number is a whole number"),
        absent("no_date", "no_date", "the day is a date of the calendar"),
        between("hour", 0, 23, "hour_out_of_range", "between 0 and 23"),
        absent("repeated_hour", "repeated_hour", "every hour of a day is there once"),
        absent("wrong_month", "wrong_month", "year and month are those of the date"),
        absent("wrong_weekday", "wrong_weekday", "the weekday is that of the date"),
        absent("wrong_working_day", "wrong_working_day", "a working day is neither at the weekend nor a holiday"),
        one_of("season", SEASONS, "unknown_season_code", "1 to 4"),
        one_of("weather", WEATHERS, "unknown_weather_code", "1 to 4"),
        absent("reading", "reading_out_of_range", "every reading is a share of its range, between 0 and 1"),
        absent("dry", "humidity_reads_zero", "humidity is above 0: at 0 the sensor is broken"),
        absent(
            "feels", "feels_like_disagrees", f"felt and real temperature are within {FEELS_APART:g} degrees Celsius"
        ),
        absent("negative", "negative_count", "no count is negative"),
        absent("wrong_sum", "rentals_are_not_the_sum", "rentals are casual and registered ones together"),
        absent(
            "wrong_season", "wrong_season", "the season is that of the date (the day of its start may vary)", warns=True
        ),
        absent("wrong_holiday", "wrong_holiday", "holidays are those of the District of Columbia", warns=True),
        absent("hour_before", "hour_before_is_missing", "the hour before is there, too", warns=True),
    ]


def season_of(day: date) -> int:
    """The code of the astronomical season of a day."""
    passed = sum((day.month, day.day) >= start for start in SEASON_STARTS)
    return passed % 4 + 1


@lru_cache(maxsize=64)
def holidays_of(year: int) -> frozenset[date]:
    """Holidays of the District of Columbia: the federal ones, and Emancipation Day."""
    rules = [*USFederalHolidayCalendar.rules, Holiday("Emancipation Day", month=4, day=16, observance=nearest_workday)]
    found = USFederalHolidayCalendar(rules=rules).holidays(f"{year}-01-01", f"{year}-12-31")
    return frozenset(found.date)


def _moment(row: Mapping[str, Any]) -> datetime | None:
    day = day_of(row["day"])
    if day is None or row["hour"] is None or not 0 <= row["hour"] <= 23:
        return None
    return datetime(day.year, day.month, day.day, row["hour"])


def _by_date(agrees: Any) -> Any:
    def fault(row: Mapping[str, Any]) -> str | None:
        day = day_of(row["day"])
        return None if day is None or agrees(day, row) else day.isoformat()

    return fault


def _wrong_working_day(row: Mapping[str, Any]) -> str | None:
    works = row["weekday"] in range(1, 6) and not row["holiday"]
    return None if works == row["working_day"] else f"weekday {row['weekday']}, holiday {row['holiday']}"


def _feels_apart(row: Mapping[str, Any]) -> str | None:
    real, felt = temperature_celsius(row["temperature"]), feels_like_celsius(row["feels_like"])
    return f"{real:.0f} feels like {felt:.0f}" if abs(real - felt) > FEELS_APART else None


def _wrong_sum(row: Mapping[str, Any]) -> str | None:
    total = row["casual"] + row["registered"]
    return None if total == row["rentals"] else f"{total}, not {row['rentals']}"
