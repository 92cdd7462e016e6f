"""What kind of run it is decides what it may do: a backfill can never release, an automatic retrain keeps its cause."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from include.errors import UserError
from plugins.windtunnel.runs import run_actor, run_name, run_params

DEFAULTS: dict[str, Any] = {
    "profile": "default", "source": None, "since": None, "until": None, "seed": 0, "trials": None,
    "releasable": True, "attempt": 1, "adjust": {}, "reason": None,
}  # fmt: skip


def context(kind: str, params: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    run = SimpleNamespace(run_type=kind, dag_id="train__x", run_id=f"{kind}__1:2", triggering_user_name=None)
    return {"dag_run": run, "params": {**DEFAULTS, **(params or {})}, **more}


def event(extra: dict[str, Any]) -> dict[str, list[SimpleNamespace]]:
    return {"asset": [SimpleNamespace(extra=extra)]}


def test_a_backfill_takes_its_own_interval_and_is_never_releasable() -> None:
    interval = {
        "data_interval_start": datetime(2026, 10, 12, tzinfo=UTC),
        "data_interval_end": datetime(2026, 10, 19, tzinfo=UTC),
    }
    params = run_params(context("backfill", {"releasable": True, "since": "2020-01-01"}, **interval))
    assert (str(params.since), str(params.until)) == ("2026-10-12", "2026-10-19")
    assert params.releasable is False


def test_a_backfill_of_a_single_moment_still_covers_its_day() -> None:
    moment = datetime(2026, 10, 12, 3, tzinfo=UTC)
    params = run_params(context("backfill", data_interval_start=moment, data_interval_end=moment))
    assert (str(params.since), str(params.until)) == ("2026-10-12", "2026-10-13")


def test_a_retrain_works_by_what_was_asked_for() -> None:
    extra = {"reason": "drift of score", "params": {"profile": "demo", "attempt": 2, "adjust": {"lr_scale": 0.5}}}
    params = run_params(context("asset_triggered", triggering_asset_events=event(extra)))
    assert (params.profile, params.attempt, params.adjust) == ("demo", 2, {"lr_scale": 0.5})
    assert params.reason == "drift of score"


def test_the_newest_request_wins() -> None:
    events = {"asset": [SimpleNamespace(extra={"reason": "old"}), SimpleNamespace(extra={"reason": "new"})]}
    assert run_params(context("asset_triggered", triggering_asset_events=events)).reason == "new"


def test_a_round_of_a_backfill_stays_unreleasable() -> None:
    extra = {"reason": "round 2", "params": {"releasable": False, "since": "2026-10-12", "until": "2026-10-19"}}
    assert run_params(context("asset_triggered", triggering_asset_events=event(extra))).releasable is False


def test_nonsense_in_a_request_is_refused() -> None:
    with pytest.raises(UserError, match="colour"):
        run_params(context("asset_triggered", triggering_asset_events=event({"params": {"colour": 1}})))


def test_names_and_actors() -> None:
    assert run_name(context("manual")) == "train__x/manual__1_2"
    assert run_actor(context("scheduled")) == "scheduled via train__x"
