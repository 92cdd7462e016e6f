"""One stage of a rollout: moves traffic, waits on the triggerer while live traffic speaks, acts on the verdict.

The worker slot is free while the stage waits, which in production is hours. A stage that is not passed takes the
traffic back at once, here, before the task fails: the clean-up task of the DAG is only the second net.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.errors import WindtunnelError
from include.settings import Settings
from include.spec import load_family
from plugins.windtunnel.links import ReleasesLink
from plugins.windtunnel.runs import run_actor

if TYPE_CHECKING:
    from airflow.sdk import Context

_GRACE = timedelta(minutes=10)
#: A paused stage outlives its time limit: after this the task defers anew, so that Airflow's limit stays short.
_LOOK = timedelta(minutes=10)


class StageTrigger(BaseTrigger):
    """Asks the release engine about the stage until it has a verdict.

    Args:
        until: When to say `again` in any case, ISO 8601.
        held: A pause keeps the stage from beginning; says `again` when it may.
    """

    def __init__(
        self, family: str, profile: str, rollout: str, stage: str, poll_seconds: float, until: str, held: bool = False
    ) -> None:
        super().__init__()
        self.until = until
        self.held = held
        self.family = family
        self.profile = profile
        self.rollout = rollout
        self.stage = stage
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {
            "family": self.family,
            "profile": self.profile,
            "rollout": self.rollout,
            "stage": self.stage,
            "poll_seconds": self.poll_seconds,
            "until": self.until,
            "held": self.held,
        }
        return ("plugins.windtunnel.operators.stage.StageTrigger", arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from include.release.judging import judge, judge_held

        settings = Settings.from_env()
        spec = load_family(self.family, self.profile)
        look, until = judge_held if self.held else judge, datetime.fromisoformat(self.until)
        while True:
            try:
                now = datetime.now(UTC)
                decision = await asyncio.to_thread(look, settings, spec, self.rollout, self.stage, at=now)
            except WindtunnelError as error:
                # The gateway or the database may be away for a moment; the stage's own time limit ends the waiting.
                self.log.warning("stage %s: %s", self.stage, error)
            else:
                if not decision["wait"]:
                    yield TriggerEvent(decision)
                    return
            if datetime.now(UTC) >= until:
                yield TriggerEvent({"again": True})
                return
            await asyncio.sleep(self.poll_seconds)


class StageOperator(BaseOperator):
    """Enters a stage, waits for its verdict, and rolls back unless it is PASS.

    Args:
        family: Name of the family.
        stage: Name of the stage in the spec.
        rollout: Result of `begin` (may be an XCom reference): rollout, profile.
    """

    template_fields = ("rollout",)
    operator_extra_links = (ReleasesLink(),)
    ui_color = "#fdf3e1"

    def __init__(self, *, family: str, stage: str, rollout: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.family = family
        self.stage = stage
        self.rollout = rollout

    def execute(self, context: Context) -> None:
        from include.release import engine

        settings, profile = Settings.from_env(), self.rollout["profile"]
        spec = load_family(self.family, profile)
        stage = next(stage for stage in spec.release.stages if stage.name == self.stage)
        now = datetime.now(UTC)
        entered = engine.enter_stage(
            settings, spec, self.rollout["rollout"], self.stage, actor=run_actor(context), at=now
        )
        held = entered.get("held")
        if held:
            self.log.info("stage %s does not begin: %s", self.stage, held)
        else:
            self.log.info(
                "stage %s: generation %s holds since %s", self.stage, entered["generation"], entered["entered_at"]
            )
        poll = min(5.0, max(0.5, stage.min_seconds / 10))
        patience = timedelta(seconds=stage.max_seconds) + _LOOK
        self.defer(
            trigger=StageTrigger(
                self.family,
                profile,
                self.rollout["rollout"],
                self.stage,
                poll,
                until=(now + patience).isoformat(),
                held=bool(held),
            ),
            method_name="conclude",
            timeout=patience + _GRACE,
        )

    def conclude(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The stage has its verdict: go on, or take the traffic back and fail. Or it is to be looked at again."""
        from include.release import engine

        if event.get("again"):
            self.execute(context)
        for reason in event["why"]:
            self.log.info("stage %s: %s", self.stage, reason)
        if event["verdict"] == "PASS":
            return event
        spec = load_family(self.family, self.rollout["profile"])
        reason = f"stage {self.stage}: {event['verdict']}: {'; '.join(event['why'])}"
        done = engine.roll_back(
            Settings.from_env(),
            spec,
            self.rollout["rollout"],
            reason=reason,
            actor=run_actor(context),
            at=datetime.now(UTC),
        )
        raise AirflowFailException(f"{reason}. Rolled back: {done}")
