"""The light tasks of `release__<family>`: which candidate, and how the rollout ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.settings import Settings
from include.spec import load_family
from plugins.windtunnel.runs import run_actor, run_name


def select(family: str) -> dict[str, Any]:
    """The candidate to release: the newest announced one, or the version that a person asked for."""
    from include.release import engine
    from include.release.load_check import LoadCheckFailed

    context = get_current_context()
    wanted = _wanted(context)
    spec = load_family(family, wanted["profile"])
    run, actor, now = run_name(context), run_actor(context), datetime.now(UTC)
    try:
        begun = engine.begin(Settings.from_env(), spec, wanted["model_version"], run=run, actor=actor, at=now)
    except LoadCheckFailed as error:
        raise AirflowFailException(str(error)) from error
    if begun.get("skip"):
        raise AirflowSkipException(f"nothing to release: {begun['skip']}")
    return {**begun, "profile": wanted["profile"]}


def promote(family: str, rollout: dict[str, Any]) -> dict[str, Any]:
    """Every stage was passed: the candidate is the champion."""
    from include.release import engine

    context = get_current_context()
    spec = load_family(family, rollout["profile"])
    actor, now = run_actor(context), datetime.now(UTC)
    return engine.promote(Settings.from_env(), spec, rollout["rollout"], actor=actor, at=now)


def roll_back(family: str, rollout: dict[str, Any] | None) -> dict[str, Any]:
    """Something failed: make sure that the previous champion has all traffic again."""
    if not rollout:
        raise AirflowSkipException("the rollout never began: there is nothing to take back")
    from include.release import engine

    context = get_current_context()
    done = engine.roll_back(
        Settings.from_env(),
        load_family(family, rollout["profile"]),
        rollout["rollout"],
        reason="a task of the release failed",
        actor=run_actor(context),
        at=datetime.now(UTC),
    )
    raise AirflowFailException(f"the release did not succeed; traffic is where it was before: {done}")


def _wanted(context: Any) -> dict[str, Any]:
    params = context["params"]
    found = [event.extra for events in (context.get("triggering_asset_events") or {}).values() for event in events]
    if found:  # several candidates may have been announced since the last release: the newest flies
        newest = found[-1]
        return {"model_version": newest["model_version"], "profile": newest.get("profile") or params["profile"]}
    if not params["model_version"]:
        raise AirflowFailException("no candidate was announced: give `model_version`; `windtunnel versions` lists them")
    return {"model_version": params["model_version"], "profile": params["profile"]}
