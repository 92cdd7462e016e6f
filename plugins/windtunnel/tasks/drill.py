"""The light tasks of `drill__<family>`: which bad model is released, and what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.settings import Settings
from plugins.windtunnel.runs import run_actor, run_name

IN_TURN = "in turn"


def plan_drill(family: str) -> dict[str, Any]:
    """What the drill tries: the person's choice, or the fault whose turn it is; skipped where nothing serves."""
    from include.release import candidate
    from include.release.drill.record import turn

    context, settings = get_current_context(), Settings.from_env()
    if candidate.champion(settings, family) is None:
        raise AirflowSkipException("nothing serves yet: there is no model to spoil, and nothing to protect")
    wanted = context["params"]["fault"]
    fault = turn(settings, family).value if wanted == IN_TURN else wanted
    name = run_name(context).replace("/", "-")
    return {"drill": name, "fault": fault, "live": context["params"]["live"]}


def keep_drill(family: str, found: dict[str, Any]) -> dict[str, Any]:
    """Records the drill; fails where the bad model was not stopped."""
    from include.release.drill.plan import summary
    from include.release.drill.record import keep

    keep(Settings.from_env(), family, found, actor=run_actor(get_current_context()), at=datetime.now(UTC))
    if found["outcome"] != "stopped":
        raise AirflowFailException(f"{summary(found)}. The guardrails of {family} would have let it through.")
    return found
