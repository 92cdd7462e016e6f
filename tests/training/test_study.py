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
from sqlalchemy import create_engine, text

from include.errors import UserError
from include.spec.search import SweepSpec
from include.training import study_storage, study_trials
from include.training.budget import TrialFacts
from include.training.choice import ranked
from include.training.study import STOPPED, load_study, open_study, outcomes, trial_facts
from include.training.study_storage import StudyError, open_storage
from include.training.study_trials import run_trials, settle
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
    study = _open(url, budget=6)
    assert run_trials(study, _score, worker="w") == 6
    trials = study.get_trials()
    assert trials[0].params == {"rate": 0.25}
    best = ranked(outcomes(study), _spec())[0]
    assert trials[0].value is not None and best.value >= trials[0].value


def test_a_tie_goes_to_the_defaults(url: str) -> None:
    study = _open(url)
    run_trials(study, lambda trial: trial.suggest_float("rate", 0, 1) * 0.0, worker="w")
    assert ranked(outcomes(study), _spec())[0].trial == 0


def test_workers_at_the_same_time_share_the_budget_exactly(url: str) -> None:
    ran: dict[str, int] = {}

    def work(slot: int) -> None:
        ran[f"w{slot}"] = run_trials(_open(url, slot, budget=9), _score, worker=f"w{slot}")

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
    run_trials(_open(url, budget=3), _score, worker="w")
    assert run_trials(_open(url, budget=3), _score, worker="w") == 0
    assert len(load_study(url, "s").get_trials()) == 3


def test_pruned_trials_use_up_the_budget_and_are_no_result(url: str) -> None:
    def prune(trial: Trial) -> float:
        trial.suggest_float("rate", 0, 1)
        raise optuna.TrialPruned

    study = _open(url, budget=3)
    assert run_trials(study, prune, worker="w") == 3
    assert outcomes(study) == []


def test_a_study_that_is_not_there_and_a_database_that_cannot_be_used(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _open(url)
    with pytest.raises(StudyError, match="there is no study 'nope'"):
        load_study(url, "nope")
    monkeypatch.setattr(study_storage, "_OPEN_TRIES", 1)
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StudyError, match="cannot be used"):
        _open(f"sqlite:///{tmp_path / 'broken.db'}")


_HANGS = """
    import sys, time
    from pathlib import Path
    from include.spec.search import SweepSpec
    from include.training.study import open_study
    from include.training.study_trials import run_trials
    url, mark = sys.argv[1:]
    spec = SweepSpec.model_validate({"metric": "m", "space": {"rate": {"kind": "float", "low": 0.0, "high": 1.0}}})
    study = open_study(url, "s", spec, seed=1, slot=0, defaults={"rate": 0.25}, budget=4)
    def hang(trial):
        trial.suggest_float("rate", 0.0, 1.0)
        Path(mark).write_text("running")
        time.sleep(600)
    run_trials(study, hang, worker="first")
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
    assert run_trials(study, _score, worker="first") == 4
    trials = study.get_trials()
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 4, TrialState.FAIL: 1}
    assert trials[0].state is TrialState.FAIL
    assert trials[1].params == trials[0].params == {"rate": 0.25}


def test_a_trial_whose_worker_died_before_it_could_name_itself_does_not_block_the_study(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_trials, "GRACE_SECONDS", 1)
    study = _open(url, budget=3)
    study.ask()  # takes trial 0 and is never heard of again
    assert run_trials(study, _score, worker="w") == 3
    assert Counter(trial.state for trial in study.get_trials()) == {TrialState.COMPLETE: 3, TrialState.FAIL: 1}


@pytest.mark.slow
def test_another_worker_finishes_the_trial_of_one_that_never_comes_back(url: str, tmp_path: Path) -> None:
    _killed_in_a_trial(url, tmp_path)
    study = _open(url, slot=1, budget=4)
    assert run_trials(study, _score, worker="second") == 4
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(finished) == 4
    assert {"rate": 0.25} in [trial.params for trial in finished]


def test_a_stop_rule_ends_the_study_for_all_workers_and_is_kept(url: str) -> None:
    def stop(trials: Sequence[TrialFacts]) -> str | None:
        return "five are enough" if len(trials) >= 5 else None

    def work(slot: int) -> None:
        run_trials(_open(url, slot, budget=20), _score, worker=f"w{slot}", stop=stop)

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


def test_a_trial_whose_worker_failed_is_tried_again_by_the_next(url: str) -> None:
    def fail(trial: Trial) -> float:
        trial.suggest_float("rate", 0.0, 1.0)
        raise ConnectionError("the store is away")

    with pytest.raises(ConnectionError):
        run_trials(_open(url, budget=2), fail, worker="w")
    study = _open(url, budget=2)
    assert run_trials(study, _score, worker="w") == 2
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.get_trials()[1].params == {"rate": 0.25}  # the defaults again, first of all


def test_what_a_person_must_change_is_not_tried_again(url: str) -> None:
    def fail(trial: Trial) -> float:
        raise UserError("there is no such metric")

    study = _open(url, budget=2)
    with pytest.raises(UserError):
        run_trials(study, fail, worker="w")
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL]


def test_a_stopped_study_stays_stopped_though_a_dead_trial_gave_back_its_budget(url: str, tmp_path: Path) -> None:
    _killed_in_a_trial(url, tmp_path)
    other = _open(url, slot=1, budget=4)
    run_trials(other, _score, worker="second", stop=lambda trials: "enough" if trials else None)
    assert run_trials(_open(url, budget=4), _score, worker="first") == 0
    settle(other)
    assert not other.get_trials(states=(TrialState.RUNNING,))


def test_tables_of_another_optuna_are_refused_with_what_to_do(url: str) -> None:
    _open(url)
    engine = create_engine(url)

    def stamp(revision: str) -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})

    head = open_storage(url).get_head_version()
    older = next(revision for revision in open_storage(url).get_all_versions() if revision != head)
    stamp(older)
    with pytest.raises(StudyError, match=f"an older Optuna .{older}.") as caught:
        load_study(url, "s")
    assert "optuna storage upgrade" in caught.value.hint
    stamp("v99.0.0.a")
    with pytest.raises(StudyError, match="a newer Optuna"):
        load_study(url, "s")


def test_a_waiting_trial_goes_to_one_worker(url: str) -> None:
    study = _open(url)
    for _ in range(40):
        study.enqueue_trial({"rate": 0.5})
    waiting = [trial._trial_id for trial in study.get_trials()]
    taken: list[int] = []
    together = threading.Barrier(4)

    def take() -> None:
        storage = open_storage(url)
        together.wait()
        for trial in waiting:
            if storage.set_trial_state_values(trial, state=TrialState.RUNNING):
                taken.append(trial)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(taken) == waiting
