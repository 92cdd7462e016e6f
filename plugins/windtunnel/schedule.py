"""Timetables: by cron, by retrain request, or both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable
from croniter import croniter

from include.spec import FamilySpec


def candidate_asset(family: str) -> Asset:
    """The event that a registered candidate waits for release."""
    return Asset(name=f"{family}_candidate", uri=f"windtunnel://{family}/candidate", group="windtunnel")


def retrain_asset(family: str) -> Asset:
    """The event that a family asks to be trained again."""
    return Asset(name=f"{family}_retrain", uri=f"windtunnel://{family}/retrain", group="windtunnel")


def review_asset(family: str) -> Asset:
    """The event that the gate may have left pairs for people."""
    return Asset(name=f"{family}_review", uri=f"windtunnel://{family}/review", group="windtunnel")


def cron(expression: str) -> CronTriggerTimetable:
    """Runs at the cron's ticks from now on; each run's data interval reaches back to the tick before."""
    ticks = croniter(expression, datetime(2026, 1, 1, tzinfo=UTC))
    first, second = ticks.get_next(datetime), ticks.get_next(datetime)
    interval: timedelta = second - first
    return CronTriggerTimetable(expression, timezone="UTC", interval=interval, run_immediately=False)


def weekly_or_requested(spec: FamilySpec) -> AssetOrTimeSchedule:
    """`train__<family>`: by the spec's cron, and whenever a retrain is requested."""
    return AssetOrTimeSchedule(timetable=cron(spec.schedule.train), assets=[retrain_asset(spec.family)])
