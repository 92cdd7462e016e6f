"""Several local pods for one training: started together, ended together, and told by the one that explains the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.sdk")

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException

from include.failures.endings import Ending
from include.failures.records import FailureRecord, read_failures
from include.pods.contract import PodPhase
from include.settings import Settings
from include.spec import load_family
from include.spec.models import FamilySpec
from include.store.objects import open_store
from plugins.windtunnel.operators import local_gang
from plugins.windtunnel.operators import step as step_module
from plugins.windtunnel.operators.failed import StepFailed
from plugins.windtunnel.operators.step import LocalStepOperator, pods
from tests.plugins.test_runs import DEFAULTS
from tests.training.conftest import small_spec, wait_for

STEP = """
import os, sys, time
from include.errors import DataError
from include.steps.entry import main
from include.training.command import run_part
from include.training.node import Node

def work(context):
    how, node = context.document.inputs["how"], Node.from_env()
    print("node", node.rank, "of", node.nodes, node.gang, flush=True)
    if how == "data" and node.rank == 1:
        raise DataError("row 7 has no answer", where="a.jsonl:7", hint="mend it")
    context.store.put(f"here/{node.rank}", b"")
    while how != "meet" or not context.store.exists(f"here/{1 - node.rank}"):
        time.sleep(0.01)
    return {"gang": node.gang, "threads": os.environ["OMP_NUM_THREADS"]}

sys.exit(main({"fit": "scripted.__main__:work"}, "scripted", run=run_part if Node.from_env().rank else None))
"""
Make = Callable[[str], tuple[LocalStepOperator, dict[str, Any]]]


@pytest.fixture
def fit(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an operator for a `fit` of two nodes that behave as its input says, and a context to execute it in."""
    package = tmp_path / "code" / "scripted"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STEP)
    values = load_family("compliance_qa").model_dump(mode="json")
    values["trainer"] |= {"nodes": 2, "devices": 1}
    values["retry"] = {"pause_seconds": 0}
    spec = FamilySpec.model_validate(values)
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).resolve().parents[2]}:{package.parent}")
    monkeypatch.setitem(step_module.PACKAGES, "fit", "scripted")
    monkeypatch.setattr(step_module, "run_any_spec", lambda context, family: spec)
    monkeypatch.setattr(local_gang, "_ECHO_SECONDS", 1.0)

    def make(how: str) -> tuple[LocalStepOperator, dict[str, Any]]:
        with DAG("train__x"):
            operator = LocalStepOperator(task_id="fit", family="compliance_qa", step="fit", inputs={"how": how})
        run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id="manual__1", triggering_user_name=None)
        ti = SimpleNamespace(map_index=-1, try_number=1, run_id="manual__1")
        return operator, {"dag_run": run, "params": DEFAULTS, "ti": ti}

    return make


def _ends(made: tuple[LocalStepOperator, dict[str, Any]], before: Callable[[], Any] = lambda: None) -> AirflowException:
    """What the task raises; `before` is called once both pods say that they run."""
    operator, context = made
    follow = operator._follow

    def after(name: str) -> Any:
        wait_for(lambda: all(pods().logs(each, 0) for each in (name, f"{name}-node-1")))
        before()
        return follow(name)

    operator._follow = after  # type: ignore[method-assign]
    with pytest.raises(AirflowException) as caught:
        operator.execute(context)
    return caught.value


def _failure(made: tuple[LocalStepOperator, dict[str, Any]]) -> FailureRecord:
    operator, context = made
    store = open_store(Settings.from_env().store_url)
    (record,) = read_failures(store, operator.write_document(context).output)
    return record


def _running() -> list[str]:
    return [name for name in pods().names() if pods().status(name).phase is PodPhase.RUNNING]


def test_all_nodes_are_started_and_know_each_other(fit: Make) -> None:
    operator, context = fit("meet")
    found = operator.execute(context)
    assert len(found["gang"]) == 32 and int(found["threads"]) >= 1
    helper = next(name for name in pods().names() if name.endswith("-node-1"))
    assert f"node 1 of 2 {found['gang']}".encode() in pods().logs(helper, 0)
    assert _running() == []


def test_a_node_that_fails_alone_ends_the_others_and_tells_why(fit: Make) -> None:
    made = fit("data")
    assert isinstance(_ends(made), AirflowFailException)
    record = _failure(made)
    assert (record.exit_code, record.ending) == (2, Ending.USER), record
    assert _running() == []


def test_a_node_that_is_lost_uses_no_retry(fit: Make) -> None:
    made = fit("sleep")

    def lose() -> None:
        helper = next(name for name in _running() if name.endswith("-node-1"))
        supervisor = Settings.from_env().home / "pods" / helper / "ready"
        os.kill(int(supervisor.read_text()), signal.SIGKILL)

    assert isinstance(_ends(made, lose), AirflowRescheduleException)
    assert _failure(made).ending is Ending.NODE_LOST
    assert _running() == []


def test_a_task_that_is_killed_takes_all_nodes_along(fit: Make) -> None:
    made = fit("sleep")
    assert isinstance(_ends(made, made[0].on_kill), StepFailed)
    assert _failure(made).ending is Ending.KILLED
    assert _running() == []


@pytest.mark.slow
def test_two_local_pods_train_one_model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_spec(trainer={"nodes": 2, "max_epochs": 1})
    monkeypatch.setitem(step_module.PACKAGES, "fit", "tests.fakes.training_process")
    monkeypatch.setattr(step_module, "run_any_spec", lambda context, family: spec)
    inputs = {"dataset_version": "1.0.0", "dataset_digest": "d", "hyperparameters": {}, "seed": 1}
    with DAG("train__x"):
        operator = LocalStepOperator(task_id="fit", family="compliance_qa", step="fit", inputs=inputs)
    run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id="manual__1", triggering_user_name=None)
    ti = SimpleNamespace(map_index=-1, try_number=1, run_id="manual__1")
    found = operator.execute({"dag_run": run, "params": DEFAULTS, "ti": ti})
    assert found["steps"] == 12 and found["metrics"]["map_at_10"] > 0.3
    assert _running() == []
