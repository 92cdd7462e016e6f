"""studies, study: what the sweeps tried; and Optuna's dashboard, asked over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial

from include.settings import Settings
from include.spec.search import SweepSpec
from include.training.repeats import run_repeats
from include.training.study import FAMILY, PER_SECOND, open_study
from include.training.study_trials import run_trials
from tests.cli.conftest import Result
from tests.training.conftest import wait_for

Windtunnel = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]
SPACE = {"rate": {"kind": "float", "low": 0.0, "high": 1.0}, "mode": {"kind": "choice", "values": ["a", "b"]}}


class _Again:
    def repeat(self, repeats: optuna.Study, trial: Trial, params: dict[str, Any], seed: int) -> float:
        return float(params["rate"] > 0.25) + seed / 100


@pytest.fixture
def studied(settings: Settings) -> str:
    """A study of five trials, one pruned, that was stopped and whose best two were repeated."""
    sweep = SweepSpec.model_validate({"metric": "map", "space": SPACE, "sampler": "random", "confirm": {"seeds": 2}})
    facts = {FAMILY: "compliance_qa", PER_SECOND: 0.5}
    study = open_study(
        settings.optuna_url, "compliance_qa-1.0.0-abc", sweep, seed=1, slot=0, budget=9, facts=facts,
        defaults={"rate": 0.25, "mode": "b"},
    )  # fmt: skip

    def score(trial: Trial) -> float:
        rate = trial.suggest_float("rate", 0.0, 1.0)
        trial.suggest_categorical("mode", ["a", "b"])
        trial.report(rate, 1)
        if trial.number == 3:
            raise optuna.TrialPruned
        return 1.0 - abs(rate - 0.25)

    run_trials(study, score, worker="w", stop=lambda trials: "five are enough" if len(trials) >= 5 else None)
    runner: Any = _Again()
    url = settings.optuna_url
    run_repeats(url, study, sweep, runner, seed=1, worker="w", stop=lambda trials: None)
    return study.study_name


def test_nothing_was_searched_yet(windtunnel: Windtunnel) -> None:
    assert windtunnel("studies", "--json").json == []
    assert "no study yet" in windtunnel("studies").out
    missing = windtunnel("study", "nope")
    assert missing.code == 2 and "there is no study 'nope'" in missing.err


def test_a_study_is_listed_and_shown_with_what_decided(windtunnel: Windtunnel, studied: str) -> None:
    (listed,) = windtunnel("studies", "compliance_qa", "--json").json
    assert listed["states"] == {"complete": 4, "pruned": 1}
    assert (listed["best"], listed["stopped"], listed["study"]) == (0, "five are enough", studied)
    assert listed["money"] == pytest.approx(30 * listed["minutes"], abs=0.1)
    assert windtunnel("studies", "other", "--json").json == []
    assert "five are enough" in windtunnel("studies").out

    record = windtunnel("study", "compliance", "--json").json  # the start of the name is enough
    assert (
        record["confirmed"]["trial"] == 1 or record["confirmed"]["repeated"][1]["trial"] == record["confirmed"]["trial"]
    )
    assert record["confirmed"]["changed"] is True
    assert record["trials"][3]["state"] == "pruned" and record["trials"][3]["values"] is None
    assert record["trials"][0]["params"] == {"rate": 0.25, "mode": "b"}
    shown = windtunnel("study", studied).out
    assert "maximize map" in shown and "five are enough" in shown and "Trained again" in shown
    assert "instead of the sweep's best" in shown


def test_a_study_that_no_sweep_made_is_shown_as_far_as_it_goes(windtunnel: Windtunnel, settings: Settings) -> None:
    Path(settings.optuna_url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    study = optuna.create_study(study_name="someone's", storage=settings.optuna_url)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    record = windtunnel("study", "someone", "--json").json
    assert (record["best"], record["family"], len(record["trials"])) == (None, None, 2)
    assert windtunnel("study", "someone's").code == 0
    assert windtunnel("studies").code == 0


@pytest.mark.slow
def test_the_dashboard_serves_the_studies_to_this_machine(settings: Settings, studied: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "include.cli.main", "studies", "--dashboard", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def get(path: str) -> bytes | None:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0].decode())
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return bytes(answer.read())
        except OSError:
            return None

    try:
        found = json.loads(wait_for(lambda: get("/api/studies"), 120))["study_summaries"]
        names = {one["study_name"]: one["study_id"] for one in found}
        assert studied in names
        detail = json.loads(get(f"/api/studies/{names[studied]}") or b"{}")
        assert len(detail["trials"]) == 5
        assert b"<html" in (get("/dashboard") or b"").lower()
    finally:
        process.kill()
        process.communicate()
