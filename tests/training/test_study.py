"""A study that workers share: exactly its budget of trials, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial, TrialState

from include.spec.search import SweepSpec
from include.training import study as study_module
from include.training.budget import TrialFacts
from include.training.study import STOPPED, StudyError, best_trial, load_study, open_study, run_trials, trial_facts
from tests.training.conftest import ROOT, wait_for

SPACE: dict[str, Any] = {"rate": {"kind": "float", "low": 0.0, "high": 1.0}}
DEFAULTS = {"rate": 0.25, "other": 7}


def _spec(**changes: Any) -> SweepSpec:
    return SweepSpec.model_validate({"metric": "m", "space": SPACE} | changes)


def _open(url: str, slot: int = 0, budget: int = 6, **changes: Any) -> optuna.Study:
    return open_study(url, "s", _spec(**changes), seed=1, slot=slot, defaults=DEFAULTS, budget=budget)


def _score(trial: Trial) -> float:
    return -abs(trial.suggest_float("rate", 0.0, 1.0) - 0.8)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'db' / 'optuna.db'}"


def test_the_first_trial_is_the_defaults_and_the_best_is_never_worse(url: str) -> None:
    study = _open(url)
    assert run_trials(study, _score, budget=6, worker="w") == 6
    trials = study.get_trials()
    assert trials[0].params == {"rate": 0.25}
    best = best_trial(study)
    assert best is not None and best.value is not None and trials[0].value is not None
    assert best.value >= trials[0].value


def test_a_tie_goes_to_the_defaults(url: str) -> None:
    study = _open(url)
    run_trials(study, lambda trial: trial.suggest_float("rate", 0, 1) * 0.0, budget=4, worker="w")
    best = best_trial(study)
    assert best is not None and best.number == 0


def test_workers_at_the_same_time_share_the_budget_exactly(url: str) -> None:
    ran: dict[str, int] = {}

    def work(slot: int) -> None:
        ran[f"w{slot}"] = run_trials(_open(url, slot, budget=9), _score, budget=9, worker=f"w{slot}")

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    states = Counter(trial.state for trial in load_study(url, "s").get_trials())
    assert states[TrialState.COMPLETE] == 9
    assert sum(ran.values()) == 9
    assert states[TrialState.RUNNING] == 0
    assert load_study(url, "s").get_trials()[0].params == {"rate": 0.25}


def test_a_finished_study_is_not_extended(url: str) -> None:
    run_trials(_open(url), _score, budget=3, worker="w")
    assert run_trials(_open(url), _score, budget=3, worker="w") == 0
    assert len(load_study(url, "s").get_trials()) == 3


def test_pruned_trials_use_up_the_budget_and_are_no_result(url: str) -> None:
    def prune(trial: Trial) -> float:
        trial.suggest_float("rate", 0, 1)
        raise optuna.TrialPruned

    study = _open(url)
    assert run_trials(study, prune, budget=3, worker="w") == 3
    assert best_trial(study) is None


def test_grid_and_random_samplers_work_too(url: str) -> None:
    for name in ("grid", "random"):
        spec = _spec(sampler=name, space={"mode": {"kind": "choice", "values": ["a", "b", "c"]}})
        study = open_study(url, name, spec, seed=0, slot=0, defaults={"mode": "a"}, budget=3)
        run_trials(
            study, lambda trial: float(trial.suggest_categorical("mode", ["a", "b", "c"]) == "b"), budget=3, worker="w"
        )
        assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 3


def test_a_study_that_is_not_there_and_a_database_that_cannot_be_used(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _open(url)
    with pytest.raises(StudyError, match="there is no study 'nope'"):
        load_study(url, "nope")
    monkeypatch.setattr(study_module, "_OPEN_TRIES", 1)
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StudyError, match="cannot be used"):
        _open(f"sqlite:///{tmp_path / 'broken.db'}")


_HANGS = """
    import sys, time
    from pathlib import Path
    from include.spec.search import SweepSpec
    from include.training.study import open_study, run_trials
    url, mark = sys.argv[1:]
    spec = SweepSpec.model_validate({"metric": "m", "space": {"rate": {"kind": "float", "low": 0.0, "high": 1.0}}})
    study = open_study(url, "s", spec, seed=1, slot=0, defaults={"rate": 0.25}, budget=4)
    def hang(trial):
        trial.suggest_float("rate", 0.0, 1.0)
        Path(mark).write_text("running")
        time.sleep(600)
    run_trials(study, hang, budget=4, worker="first")
"""


def _killed_in_a_trial(url: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_HANGS), url, str(mark)], cwd=ROOT)
    wait_for(mark.exists, 60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_worker_that_comes_back_tries_its_trial_again_at_once(url: str, tmp_path: Path) -> None:
    _killed_in_a_trial(url, tmp_path)
    study = _open(url, budget=4)
    assert run_trials(study, _score, budget=4, worker="first") == 4
    trials = study.get_trials()
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 4, TrialState.FAIL: 1}
    assert trials[0].state is TrialState.FAIL
    assert trials[1].params == trials[0].params == {"rate": 0.25}


def test_a_trial_whose_worker_died_before_it_could_name_itself_does_not_block_the_study(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "GRACE_SECONDS", 1)
    study = _open(url, budget=3)
    study.ask()  # takes trial 0 and is never heard of again
    assert run_trials(study, _score, budget=3, worker="w") == 3
    assert Counter(trial.state for trial in study.get_trials()) == {TrialState.COMPLETE: 3, TrialState.FAIL: 1}


@pytest.mark.slow
def test_another_worker_finishes_the_trial_of_one_that_never_comes_back(url: str, tmp_path: Path) -> None:
    _killed_in_a_trial(url, tmp_path)
    study = _open(url, slot=1, budget=4)
    assert run_trials(study, _score, budget=4, worker="second") == 4
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(finished) == 4
    assert {"rate": 0.25} in [trial.params for trial in finished]


def test_a_stop_rule_ends_the_study_for_all_workers_and_is_kept(url: str) -> None:
    def stop(trials: Sequence[TrialFacts]) -> str | None:
        return "five are enough" if len(trials) >= 5 else None

    def work(slot: int) -> None:
        run_trials(_open(url, slot, budget=20), _score, budget=20, worker=f"w{slot}", stop=stop)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    study = load_study(url, "s")
    assert study.user_attrs[STOPPED] == "five are enough"
    facts = trial_facts(study)
    assert len(facts) == 5  # never six: of two that asked at once, the later one gave its trial back
    assert all(fact.tried and not fact.running and fact.value is not None for fact in facts)
    assert len(trial_facts(study, before=2)) == 2
