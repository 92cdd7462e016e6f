"""The light tasks of `monitor__<family>`: what the monitors found, and whether that starts a retrain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from include.settings import Settings
from plugins.windtunnel.runs import run_actor, run_name, run_params, run_spec
from plugins.windtunnel.schedule import retrain_asset


def drift_inputs(family: str) -> dict[str, Any]:
    """What the drift check compares: the champion's reference with the live requests up to now."""
    from include.release import candidate

    context = get_current_context()
    settings, spec = Settings.from_env(), run_spec(context, family)
    champion = candidate.champion(settings, family)
    if champion is None:
        raise AirflowSkipException("nothing serves yet: there is nothing to compare with")
    now = datetime.now(UTC)
    since = now - timedelta(hours=spec.monitoring.drift_window_hours)
    return {"now": now.isoformat(), "since": since.isoformat(), "champion": champion}


def drift_vote(found: dict[str, Any]) -> dict[str, Any]:
    """The drift check's vote; skipped when there is no drift."""
    if not found["drifted"]:
        raise AirflowSkipException(f"no retrain for drift: {found['why']}")
    return {"monitor": "drift", "asks": True, **found}


def govern(family: str, votes: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Asks the governor; skipped when it declines, with its reasons."""
    from include.monitoring import request

    context = get_current_context()
    decision = request.decide_retrain(
        Settings.from_env(),
        run_spec(context, family),
        [vote for vote in votes if vote],
        run=run_name(context),
        actor=run_actor(context),
        at=datetime.now(UTC),
    )
    for reason in decision["why"]:
        print(f"governor: {reason}")
    if not decision["fire"]:
        raise AirflowSkipException(f"the governor declined: {'; '.join(decision['why'])}")
    return decision


def request_retrain(family: str, decision: dict[str, Any]) -> None:
    """Emits the retrain request, which starts `train__<family>`."""
    context = get_current_context()
    context["outlet_events"][retrain_asset(family)].extra = {
        "reason": "; ".join(decision["why"]),
        "fingerprint": decision["fingerprint"],
        "params": {"profile": run_params(context).profile},
    }
