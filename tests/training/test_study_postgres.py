"""A study in a real PostgreSQL: several worker processes, one killed in mid-trial, exactly the trials that were asked
for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from include.spec.search import SweepSpec
from include.training.study import load_study
from include.training.study_storage import StudyError
from tests.training.conftest import ROOT, wait_for

TRIALS = 12

#: A worker of its own: the first to find `hold` in the folder hangs in the middle of its trial, and says who it is.
_WORKER = """
    import os, sys, time
    from pathlib import Path
    from include.spec.search import SweepSpec
    from include.training import study_storage, study_trials
    from include.training.study import open_study
    from include.training.study_trials import run_trials

    url, folder, slot, sampler = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    study_storage.HEARTBEAT_SECONDS, study_storage.GRACE_SECONDS, study_trials.GRACE_SECONDS = 1, 4, 4
    space = {"a": {"kind": "int", "low": 0, "high": 3}, "b": {"kind": "int", "low": 0, "high": 2}}
    spec = SweepSpec.model_validate({"metric": "m", "space": space, "sampler": sampler, "trials": 12})
    study = open_study(url, "s", spec, seed=1, slot=slot, defaults={"a": 1, "b": 1}, budget=12)

    def objective(trial):
        value = trial.suggest_int("a", 0, 3) + trial.suggest_int("b", 0, 2)
        if trial.number >= 3:
            try:
                (folder / "hold").unlink()
            except FileNotFoundError:
                pass
            else:
                (folder / "held.tmp").write_text(f"{os.getpid()} {trial.number}")
                (folder / "held.tmp").rename(folder / "held")
                time.sleep(600)
        time.sleep(0.05)
        return float(value)

    print(run_trials(study, objective, worker=f"w{slot}"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_worker_killed_in_mid_trial_loses_nothing(postgres_url: str, tmp_path: Path, sampler: str) -> None:
    (tmp_path / "hold").touch()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WORKER), postgres_url, str(tmp_path), str(slot), sampler],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for slot in range(3)
    ]
    try:
        wait_for((tmp_path / "held").exists, 120)
        pid, number = map(int, (tmp_path / "held").read_text().split())
        os.kill(pid, signal.SIGKILL)
        ran = []
        for worker in workers:
            printed = worker.communicate(timeout=120)[0]
            if worker.pid == pid:
                assert worker.returncode == -signal.SIGKILL
            else:
                assert worker.returncode == 0
                ran.append(int(printed))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    trials = load_study(postgres_url, "s").get_trials()
    ended = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(ended) == TRIALS
    assert not [trial for trial in trials if trial.state is TrialState.RUNNING]
    killed = trials[number]
    assert killed.state is TrialState.FAIL
    again = [trial for trial in ended if trial.system_attrs.get("failed_trial") == number]
    assert [trial.params for trial in again] == [killed.params]
    assert trials[0].params == {"a": 1, "b": 1}
    assert sum(ran) >= TRIALS - number  # what the others did: all that the killed one did not finish
    if sampler == "grid":
        assert Counter((trial.params["a"], trial.params["b"]) for trial in ended) == Counter(
            (a, b) for a in range(4) for b in range(3)
        )


@pytest.mark.slow
def test_tables_of_another_optuna_and_a_server_that_is_away(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SweepSpec.model_validate({"metric": "m", "space": {"a": {"kind": "int", "low": 0, "high": 1}}})
    from include.training.study import open_study

    open_study(postgres_url, "s", spec, seed=0, slot=0, defaults={"a": 1}, budget=1)
    with create_engine(postgres_url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v3.0.0.a'"))
    with pytest.raises(StudyError, match="an older Optuna") as caught:
        load_study(postgres_url, "s")
    assert "not-a-secret" not in str(caught.value)
    monkeypatch.setattr("include.training.study_storage._OPEN_TRIES", 2)
    with pytest.raises(StudyError, match="cannot be used") as caught:
        load_study("postgresql+psycopg2://windtunnel:not-a-secret@127.0.0.1:1/none", "s")
    assert "not-a-secret" not in str(caught.value)
