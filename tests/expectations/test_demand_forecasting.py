"""The suite of demand_forecasting: an hour must fit the calendar and the climate."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from tests.expectations.conftest import Check

#: A Tuesday.
GOOD: dict[str, Any] = {
    "hour_id": "1", "position": 1, "day": "2011-03-22", "hour": 8, "year": 0, "month": 3, "season": 2, "weekday": 2,
    "holiday": False, "working_day": True, "weather": 1, "temperature": 0.5, "feels_like": 0.48, "humidity": 0.4,
    "wind_speed": 0.0, "casual": 3, "registered": 4, "rentals": 7,
}  # fmt: skip


IMPOSSIBLE: list[tuple[dict[str, Any], list[str]]] = [
    ({"hour_id": "0"}, ["wrong_key"]),
    ({"day": "2011-02-30"}, ["no_date"]),
    ({"day": "22 March"}, ["no_date"]),
    ({"hour": 24}, ["hour_out_of_range"]),
    ({"hour": -1}, ["hour_out_of_range"]),
    ({"year": 1}, ["wrong_month"]),
    ({"month": 4}, ["wrong_month"]),
    ({"weekday": 3}, ["wrong_weekday"]),
    ({"weekday": 6}, ["wrong_weekday", "wrong_working_day"]),
    ({"working_day": False}, ["wrong_working_day"]),
    ({"season": 5}, ["unknown_season_code"]),
    ({"weather": 0}, ["unknown_weather_code"]),
    ({"wind_speed": 1.1}, ["reading_out_of_range"]),
    ({"humidity": -0.1}, ["reading_out_of_range"]),
    ({"humidity": 0.0}, ["humidity_reads_zero"]),
    ({"feels_like": 0.2424, "temperature": 0.7}, ["feels_like_disagrees"]),
    ({"feels_like": 0.9}, ["feels_like_disagrees"]),
    ({"casual": -1, "rentals": 3}, ["negative_count"]),
    ({"rentals": 8}, ["rentals_are_not_the_sum"]),
]


def test_what_cannot_be_goes_to_quarantine(check: Check) -> None:
    rows = [GOOD | {"hour": hour} | change for hour, (change, _) in enumerate(IMPOSSIBLE)]
    assert check("demand_forecasting", "hours", rows)[0] == [reasons for _, reasons in IMPOSSIBLE]


def test_an_hour_that_is_there_twice_is_not_trusted_at_all(check: Check) -> None:
    rows = [GOOD, GOOD | {"hour_id": "2"}, GOOD | {"hour_id": "3", "hour": 9}]
    assert check("demand_forecasting", "hours", rows)[0] == [["repeated_hour"], ["repeated_hour"], []]


def test_a_gap_is_a_warning_for_the_hour_after_it(check: Check) -> None:
    rows = [GOOD | {"hour_id": str(hour), "hour": hour} for hour in (5, 6, 9, 10)]
    assert check("demand_forecasting", "hours", rows) == ([[]] * 4, {"hour_before_is_missing": 1})


def test_midnight_follows_the_hour_before_it(check: Check) -> None:
    night = [GOOD | {"hour": 23}, GOOD | {"hour_id": "2", "hour": 0, "day": "3/23/11", "weekday": 3}]
    assert check("demand_forecasting", "hours", night) == ([[], []], {})


def test_what_the_calendar_does_not_know_for_sure_is_a_warning(check: Check) -> None:
    rows = [GOOD, GOOD | {"hour": 9, "season": 1}, GOOD | {"hour": 10, "holiday": True, "working_day": False}]
    assert check("demand_forecasting", "hours", rows) == ([[]] * 3, {"wrong_season": 1, "wrong_holiday": 1})


def test_the_calendar_is_that_of_the_district() -> None:
    from include.expectations.demand_forecasting import holidays_of

    assert {date(2011, 4, 15), date(2011, 11, 11), date(2011, 12, 26)} <= holidays_of(2011)
    assert len(holidays_of(2011)) == 10  # New Year's Day was observed in 2010
    assert {date(2012, 1, 2), date(2012, 4, 16), date(2012, 12, 25)} <= holidays_of(2012)
    assert len(holidays_of(2012)) == 11


@pytest.mark.parametrize(
    ("day", "season"),
    [((1, 1), 1), ((3, 20), 1), ((3, 21), 2), ((6, 21), 3), ((9, 22), 3), ((9, 23), 4), ((12, 20), 4), ((12, 21), 1)],
)
def test_seasons_are_astronomical(day: tuple[int, int], season: int) -> None:
    from include.expectations.demand_forecasting import season_of

    assert season_of(date(2011, *day)) == season
