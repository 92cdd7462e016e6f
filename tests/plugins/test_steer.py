"""The form that steers a rollout: what it does and refuses, and that a task that is tried again says nothing more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.release.ledger import Event
from plugins.windtunnel.tasks import steer as module
from tests.release.conftest import FAMILY, Tunnel, make_tunnel

RUN = SimpleNamespace(run_id="manual__1", dag_id="steer__tiny", run_type="manual", triggering_user_name="ada")


@pytest.fixture
def canary(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Tunnel:
    """A rollout in its canary, and Airflow's context of a run that asks for something."""
    tunnel = make_tunnel(settings, tmp_path / "models", monkeypatch)
    rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    tunnel.pass_stage(rollout, "shadow")
    tunnel.enter(rollout, "canary")
    return tunnel


def steer(monkeypatch: pytest.MonkeyPatch, action: str, run: Any = RUN, **params: Any) -> dict[str, Any]:
    context = {"params": {"action": action, "reason": "odd answers", "full": False, **params}, "dag_run": run}
    monkeypatch.setattr(module, "get_current_context", lambda: context)
    return module.steer(FAMILY)


def test_the_ledger_keeps_who_and_why(canary: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steer(monkeypatch, "pause")["changed"]
    entry = canary.ledger.entries(FAMILY, frozenset({Event.PAUSED}))[0]
    assert (entry.actor, entry.record["reason"]) == ("ada via steer__tiny manual__1", "odd answers")


def test_a_task_that_is_tried_again_waves_on_no_second_stage(canary: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steer(monkeypatch, "promote")["waved_on"] == ["canary"]
    assert steer(monkeypatch, "promote") == {"action": "promote", "changed": False}
    assert len(canary.ledger.entries(FAMILY, frozenset({Event.WAVED_ON}))) == 1
    again = SimpleNamespace(**{**vars(RUN), "run_id": "manual__2"})
    assert steer(monkeypatch, "promote", again)["waved_on"] == ["canary"]


def test_an_abort_can_be_repeated(canary: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steer(monkeypatch, "abort")["to"] == "0.1.0"
    assert not steer(monkeypatch, "abort")["changed"]
    assert canary.champion() == "0.1.0"


def test_what_is_refused_fails_for_good(canary: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    steer(monkeypatch, "abort")
    again = SimpleNamespace(**{**vars(RUN), "run_id": "manual__2"})
    with pytest.raises(AirflowFailException, match="no rollout of tiny is under way"):
        steer(monkeypatch, "pause", again)
