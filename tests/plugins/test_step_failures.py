"""Steps that end badly as real processes: what the task raises, what the next try does, once each."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.sdk")

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException

from include.failures.endings import Ending
from include.failures.policy import Action
from include.failures.records import FailureRecord, read_failures
from include.pods.contract import PodPhase, PodSpec
from include.settings import Settings
from include.steps.document import RunDocument
from include.store.objects import open_store
from plugins.windtunnel.operators import step as step_module
from plugins.windtunnel.operators.failed import StepFailed, StepRetryPolicy
from plugins.windtunnel.operators.step import LocalStepOperator, pods
from tests.plugins.test_runs import DEFAULTS

STEP = """
import os, resource, signal, sys, time
from include.errors import DataError, Diverged
from include.steps.entry import main

def work(context):
    inputs, document = context.document.inputs, context.document
    trainer = document.adjustment.trainer(document.spec.trainer)
    print("working", trainer.batch_size, document.adjustment.learning_rate_factor, flush=True)
    how = inputs["how"]
    if how == "memory" and trainer.batch_size > 8:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        resource.setrlimit(resource.RLIMIT_AS, (4 * used + 2**28,) * 2)
        bytearray(2**40)
    if how == "grows" and trainer.batch_size > 8:
        held = [b"x" * (10 << 20) for _ in range(200)]
    if how == "nan" and document.adjustment.learning_rate_factor == 1.0:
        raise Diverged("the loss is nan after step 3", where="fit", hint="lower the learning rate")
    if how == "diverges":
        raise Diverged("the loss is nan again")
    if how == "killed":
        print("the last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "sleeps":
        time.sleep(inputs["seconds"])
    if how == "data":
        raise DataError("row 7 has no answer", where="a.jsonl:7", hint="mend it")
    if how == "breaks":
        raise KeyError("x")
    return {"batch_size": trainer.batch_size, "rate": document.adjustment.learning_rate_factor}

sys.exit(main({"fit": "scripted.__main__:work"}, "scripted"))
"""
Make = Callable[..., tuple[LocalStepOperator, dict[str, Any]]]


@pytest.fixture
def fit(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an operator for a `fit` that behaves as its input says, and a context to execute it in."""
    package = tmp_path / "code" / "scripted"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STEP)
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).resolve().parents[2]}:{package.parent}")
    monkeypatch.setitem(step_module.PACKAGES, "fit", "scripted")
    monkeypatch.setitem(step_module.SPEC_PARTS, "fit", ("trainer",))

    def make(how: str, run_id: str = "manual__1", **inputs: Any) -> tuple[LocalStepOperator, dict[str, Any]]:
        with DAG("train__x"):
            operator = LocalStepOperator(
                task_id="fit", family="compliance_qa", step="fit", inputs={"how": how, **inputs}
            )
        run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id=run_id, triggering_user_name=None)
        ti = SimpleNamespace(map_index=-1, try_number=1, run_id=run_id)
        return operator, {"dag_run": run, "params": DEFAULTS, "ti": ti}

    return make


def _document(operator: LocalStepOperator, context: dict[str, Any]) -> RunDocument:
    return operator.write_document(context)


def _failures(document: RunDocument) -> list[FailureRecord]:
    return read_failures(open_store(Settings.from_env().store_url), document.output)


def _raised(operator: LocalStepOperator, context: dict[str, Any]) -> AirflowException:
    with pytest.raises(AirflowException) as caught:
        operator.execute(context)
    return caught.value


def test_a_local_pod_that_goes_beyond_its_limit_is_given_smaller_batches(
    fit: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by its control group, or refused memory where none can be made: both are an end for want of memory."""
    monkeypatch.setenv("WINDTUNNEL_LOCAL_LIMITS", "on")
    monkeypatch.setattr(step_module, "amount", lambda text: 1 << 30)
    operator, context = fit("grows")
    asked = _document(operator, context).spec.trainer.batch_size
    tries = 0
    while asked // 2**tries > 8:
        assert isinstance(_raised(*fit("grows")), AirflowRescheduleException)
        tries += 1
    operator, context = fit("grows")
    assert operator.execute(context)["batch_size"] == asked // 2**tries
    assert {failure.ending for failure in _failures(_document(operator, context))} == {Ending.OUT_OF_MEMORY}


def test_a_step_that_runs_out_of_memory_is_given_smaller_batches_until_it_fits(fit: Make) -> None:
    operator, context = fit("memory")
    asked = _document(operator, context).spec.trainer.batch_size
    tries = 0
    while asked // 2**tries > 8:
        assert isinstance(_raised(*fit("memory")), AirflowRescheduleException)
        tries += 1
    assert fit("memory")[0].execute(context) == {"batch_size": 8, "rate": 1.0}

    document = _document(operator, context)
    found = _failures(document)
    assert [failure.ending for failure in found] == [Ending.OUT_OF_MEMORY] * tries
    assert found[0].line == "MemoryError" or "MemoryError" in found[0].line
    assert document.adjustment.batch_divisor == 2**tries
    stored = json.loads(open_store(Settings.from_env().store_url).get(document.document_key))
    assert stored["adjustment"]["batch_divisor"] == 2**tries
    # The same work, asked for by another run: the same place, and so the same result.
    assert fit("memory", run_id="manual__2")[0].execute(fit("memory", run_id="manual__2")[1])["batch_size"] == 8


def test_a_step_that_diverges_begins_anew_with_a_lower_rate_once(fit: Make) -> None:
    operator, context = fit("nan")
    assert isinstance(_raised(operator, context), AirflowRescheduleException)
    assert fit("nan")[0].execute(context)["rate"] == 0.3
    assert isinstance(_raised(*fit("diverges")), AirflowRescheduleException)
    second = _raised(*fit("diverges"))
    assert isinstance(second, AirflowFailException)
    assert "the loss is nan again" in str(second) and "tried once" in str(second)


def test_a_process_that_is_killed_uses_an_ordinary_retry(fit: Make) -> None:
    operator, context = fit("killed")
    error = _raised(operator, context)
    assert isinstance(error, StepFailed)
    assert "SIGKILL" in str(error) and "the last words" in str(error)
    (failure,) = _failures(_document(operator, context))
    assert (failure.ending, failure.exit_code, failure.action) == (Ending.KILLED, 137, Action.RETRY)
    assert failure.usage["seconds"] > 0 and failure.usage["cpu_seconds"] > 0 and failure.usage["peak_bytes"] > 10**6


def test_an_error_of_the_data_fails_at_once_with_the_line_that_matters(fit: Make) -> None:
    error = _raised(*fit("data"))
    assert isinstance(error, AirflowFailException)
    assert "row 7 has no answer (a.jsonl:7). What to do: mend it" in str(error)


def test_an_unknown_error_uses_an_ordinary_retry(fit: Make) -> None:
    error = _raised(*fit("breaks"))
    assert isinstance(error, StepFailed)
    decision = StepRetryPolicy().evaluate(error, 1, 2)
    assert decision.retry_delay is None and decision.reason is not None and "'x'" in decision.reason


def _running(operator: LocalStepOperator, context: dict[str, Any]) -> tuple[threading.Thread, list[Any], str]:
    raised: list[Any] = []

    def run() -> None:
        try:
            operator.execute(context)
        except AirflowException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for name in pods().names():
            if pods().status(name).phase is PodPhase.RUNNING and "working" in "".join(pods().tail(name)):
                return thread, raised, name
        time.sleep(0.05)
    raise AssertionError("the pod did not start")


def test_a_pod_whose_supervisor_is_killed_starts_again_for_nothing(fit: Make, settings: Settings) -> None:
    operator, context = fit("sleeps", seconds=60)
    thread, raised, name = _running(operator, context)
    os.kill(int((settings.home / "pods" / name / "ready").read_text()), signal.SIGKILL)
    thread.join(60)
    assert isinstance(raised[0], AirflowRescheduleException)
    (failure,) = _failures(_document(operator, context))
    assert (failure.ending, failure.action) == (Ending.NODE_LOST, Action.AGAIN)


def test_an_end_that_nobody_saw_is_recorded_once_and_the_work_goes_on(fit: Make, settings: Settings) -> None:
    operator, context = fit("sleeps", seconds=2)
    document = _document(operator, context)
    name = step_module.pod_name("train__x", "manual__1", "fit", -1, document.fingerprint[:12])
    pods().start(PodSpec(name, ["sh", "-c", "echo std::bad_alloc; exit 134"]))
    while pods().status(name).phase is PodPhase.RUNNING:
        time.sleep(0.02)
    before = document.spec.trainer.batch_size
    assert operator.execute(context)["batch_size"] == before // 2
    assert [failure.ending for failure in _failures(document)] == [Ending.OUT_OF_MEMORY]
