"""An installation whose ledger tells stories: shipped, stopped, refused, rolled back, and what people said."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.dossier.gather import dossier
from include.release import candidate, steering
from include.settings import Settings
from include.steps.document import document_key
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import START, Tunnel, bad, make_tunnel

NOW = START + timedelta(days=3)


@pytest.fixture
def tunnel(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tunnel:
    return make_tunnel(settings, tmp_path / "models", monkeypatch)


def read(tunnel: Tunnel, version: str | None = None, **named: Any) -> dict[str, Any]:
    """The dossier, three days after the story began."""
    return dossier(tunnel.settings, FAMILY, version, **{"at": NOW, **named})


def stopped(tunnel: Tunnel, run: str = "bad") -> str:
    """A candidate that does badly in its canary; returns its version."""
    version: str = tunnel.register(run=run)["model_version"]
    rollout = tunnel.begin(version, run=f"release/{run}")["rollout"]
    tunnel.pass_stage(rollout, "shadow")
    generation = tunnel.enter(rollout, "canary")["generation"]
    tunnel.gateway.of[generation] = bad()
    tunnel.later(5)
    verdict = tunnel.judge(rollout, "canary")
    assert verdict["verdict"] == "FAIL"
    tunnel.roll_back(rollout, f"stage canary: {verdict['why'][0]}")
    return version


def refused(tunnel: Tunnel, *, archived: bool = True) -> str:
    """A candidate that is worse than guessing; returns its digest."""
    worse = {"difference": -0.2, "low": -0.3, "high": -0.1, "n": 100, "sd": 0.3}
    arguments = tunnel.arguments(run="train__tiny/refused", comparisons={"guess": {"hit_at_1": worse}}, champion=None)
    attempt = 2 if archived else 1
    decision = candidate.judge_candidate(
        tunnel.settings, tunnel.spec, **arguments, attempt=attempt, adjusted={}, backfill=False
    )
    assert decision["verdict"] == "FAIL"
    if archived:
        taken = {name: arguments[name] for name in ("run", "fit", "evaluation", "at")}
        candidate.archive_candidate(tunnel.settings, tunnel.spec, **taken, actor="me", decision=decision)
    return str(arguments["fit"]["digest"])


def say(tunnel: Tunnel, what: str, reason: str, actor: str = "ada", **named: Any) -> None:
    getattr(steering, what)(tunnel.settings, FAMILY, reason=reason, actor=actor, at=tunnel.later(1), **named)


def leave_run(tunnel: Tunnel, run: str, digest: str) -> None:
    """What the steps of a training run leave in the store, as far as a dossier reads it."""
    results = {
        "fit-0": {
            "digest": digest, "steps": 164, "best_epoch": 4, "seconds_training": 130.7, "samples_per_second": 20.1,
            "resumed_from_step": 40, "work_lost": {"tries": 1, "steps": 12, "seconds": 9.5},
        },
        "sweep-0": {"study": "s", "trials_run": 3, "repeats_run": 2, "stopped": "converged", "spent": {"minutes": 4.0}},
        "sweep-1": {"study": "s", "trials_run": 2, "repeats_run": 1},
    }  # fmt: skip
    for name, outputs in results.items():
        step, _, slot = name.partition("-")
        output = f"steps/{FAMILY}/{step}/{run.replace('/', '-')}-{slot}"
        tunnel.store.put(document_key(run, step, int(slot)), json.dumps({"output": output}).encode())
        tunnel.store.put(f"{output}/result.json", json.dumps({"outputs": outputs}).encode())
