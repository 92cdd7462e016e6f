"""The local step operator: results through the store, errors with advice, pods found again and killed with the task."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.sdk")

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.failures.classify import Evidence
from include.pods.contract import PodPhase
from include.settings import Settings
from include.store.objects import open_store
from plugins.windtunnel.operators import step as step_module
from plugins.windtunnel.operators.step import LocalStepOperator, pods
from tests.plugins.test_runs import DEFAULTS

PACKAGE = """
import json, os, sys, time
from include.settings import Settings
from include.steps.document import RunDocument
from include.store.objects import open_store
store = open_store(Settings.from_env().store_url)
document = RunDocument.model_validate_json(store.get(store.key(sys.argv[3])))
inputs = document.inputs
print("working on", inputs, flush=True)
time.sleep(inputs.get("sleep", 0))
if "error" in inputs:
    store.put(document.error_key, json.dumps(inputs["error"]).encode())
    sys.exit(inputs["exit"])
store.put(document.result_key, json.dumps({"outputs": {"answer": 42}}).encode())
"""


@pytest.fixture
def run_step(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes an operator for a step whose package is the script above, and a context to execute it in."""
    package = tmp_path / "code" / "scripted"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PACKAGE)
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{package.parent}")
    monkeypatch.setitem(step_module.PACKAGES, "scripted", "scripted")
    monkeypatch.setitem(step_module.SPEC_PARTS, "scripted", ("model",))

    def make(inputs: dict[str, Any], run_id: str = "manual__1") -> tuple[LocalStepOperator, dict[str, Any]]:
        with DAG("train__x"):
            operator = LocalStepOperator(task_id="scripted", family="compliance_qa", step="scripted", inputs=inputs)
        run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id=run_id, triggering_user_name=None)
        ti = SimpleNamespace(map_index=-1, try_number=1, run_id=run_id)
        return operator, {"dag_run": run, "params": DEFAULTS, "ti": ti}

    return make


def test_the_result_comes_back(run_step: Any) -> None:
    operator, context = run_step({"seed": 1})
    assert operator.execute(context) == {"answer": 42}


def test_the_same_work_is_not_done_again(run_step: Any) -> None:
    operator, context = run_step({"seed": 1})
    operator.execute(context)
    started = len(pods().names())
    again, context = run_step({"seed": 1}, run_id="manual__2")
    assert again.execute(context) == {"answer": 42}
    assert len(pods().names()) == started


@pytest.mark.parametrize(("exit_code", "kind"), [(2, AirflowFailException), (1, AirflowException)])
def test_errors_carry_place_and_advice(run_step: Any, exit_code: int, kind: type[Exception]) -> None:
    kind_ = "data" if exit_code == 2 else "system"
    error = {"message": "row 7 is empty", "where": "a.jsonl:7", "hint": "mend it", "kind": kind_}
    operator, context = run_step({"exit": exit_code, "error": error})
    with pytest.raises(kind, match=r"row 7 is empty \(a\.jsonl:7\)\. What to do: mend it") as caught:
        operator.execute(context)
    assert isinstance(caught.value, AirflowFailException) == (exit_code == 2)


def test_an_end_without_a_word_is_told_by_its_exit_status(run_step: Any) -> None:
    operator, context = run_step({"exit": 1, "error": {"message": "m"}})
    store = open_store(Settings.from_env().store_url)
    document = operator.write_document(context)
    error = operator.failure(operator.settle(document, "a", Evidence(exit_code=3)))
    assert isinstance(error, AirflowException) and "exit status 3" in str(error)
    assert json.loads(store.get(document.document_key))["step"] == "scripted"


def test_a_retry_attaches_to_the_pod_that_still_runs(run_step: Any) -> None:
    operator, context = run_step({"sleep": 3})
    first = threading.Thread(target=lambda: operator.execute(context), daemon=True)
    first.start()
    while not pods().names() or pods().status(pods().names()[0]).phase is not PodPhase.RUNNING:
        time.sleep(0.05)
    retry, context = run_step({"sleep": 3})
    assert retry.execute(context) == {"answer": 42}
    assert len(pods().names()) == 1
    log = pods().logs(pods().names()[0], 0)
    assert log.count(b"working on") == 1, "the work was done once"


def test_killing_the_task_stops_its_pod(run_step: Any) -> None:
    operator, context = run_step({"sleep": 60})
    ended: list[str] = []

    def execute() -> None:
        try:
            operator.execute(context)
        except AirflowException as error:
            ended.append(str(error))

    thread = threading.Thread(target=execute, daemon=True)
    thread.start()
    while not (operator._pod and pods().status(operator._pod).phase is PodPhase.RUNNING):
        time.sleep(0.05)
    operator.on_kill()
    thread.join(10)
    assert not thread.is_alive() and ended
    assert pods().status(operator._pod).phase is PodPhase.FAILED
