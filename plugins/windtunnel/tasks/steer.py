"""The task of `steer__<family>`: a person's word on the rollout that is under way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.errors import FINAL_KINDS, WindtunnelError
from include.settings import Settings
from plugins.windtunnel.runs import run_actor


def steer(family: str) -> dict[str, Any]:
    """Does what the form asks, once however often the task is tried."""
    from include.release import steering
    from include.release.state import ReleaseError

    context, settings = get_current_context(), Settings.from_env()
    wanted, actor = context["params"], f"{run_actor(context)} {context['dag_run'].run_id}"
    if steering.has_spoken(settings, family, actor):
        return {"action": wanted["action"], "changed": False}
    act = getattr(steering, wanted["action"])
    named = {"full": wanted["full"]} if wanted["action"] == "promote" else {}
    try:
        done = act(settings, family, reason=wanted["reason"], actor=actor, at=datetime.now(UTC), **named)
    except WindtunnelError as error:
        if isinstance(error, ReleaseError) or error.kind in FINAL_KINDS:  # refused: a person decides anew
            raise AirflowFailException(str(error)) from error
        raise
    return {"action": wanted["action"], **done}
