"""Waits, on the triggerer, until enough new rows lie at a family's source to ask for a retrain."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.errors import WindtunnelError
from include.settings import Settings
from include.spec import load_family
from plugins.windtunnel.connections import trigger_connection_variables
from plugins.windtunnel.runs import run_spec

if TYPE_CHECKING:
    from airflow.sdk import Context


class VolumeTrigger(BaseTrigger):
    """Counts the new rows every `poll_seconds` until the family asks for a retrain or `until` (ISO time) has passed."""

    def __init__(self, family: str, profile: str, source: str | None, until: str) -> None:
        super().__init__()
        self.family = family
        self.profile = profile
        self.source = source
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"family": self.family, "profile": self.profile, "source": self.source, "until": self.until}
        return ("plugins.windtunnel.sensors.volume.VolumeTrigger", arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from include.monitoring import volume

        settings = Settings.from_env()
        spec = load_family(self.family, self.profile)
        end = datetime.fromisoformat(self.until)
        found: dict[str, Any] = {"asks": False, "why": "the source could not be read"}
        while True:
            try:
                environ = {**os.environ, **await trigger_connection_variables(spec)}
                found = await asyncio.to_thread(volume.new_rows, settings, spec, self.source, environ)
            except WindtunnelError as error:
                # The source may be away for a moment; the run's own time limit ends the waiting.
                self.log.warning("counting new rows of %s: %s", self.family, error)
            if found["asks"] or datetime.now(UTC) >= end:
                yield TriggerEvent(found)
                return
            await asyncio.sleep(spec.monitoring.poll_seconds)


class DataVolumeSensor(BaseSensorOperator):
    """Succeeds when enough new rows wait at the source; is skipped when the waiting time is over."""

    def __init__(self, *, family: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.family = family

    def execute(self, context: Context) -> None:
        spec = run_spec(context, self.family)
        waiting = timedelta(minutes=spec.monitoring.wait_minutes)
        until = datetime.now(UTC) + waiting
        params = context["params"]
        self.defer(
            trigger=VolumeTrigger(self.family, params["profile"], params["source"], until.isoformat()),
            method_name="conclude",
            timeout=waiting + timedelta(minutes=10),
        )

    def conclude(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Turns the count into the sensor's vote."""
        if not event["asks"]:
            raise AirflowSkipException(f"no retrain for volume: {event}")
        return {"monitor": "data_volume", **event}
