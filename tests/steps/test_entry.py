"""The contract of a step process: result last, error recorded, the same work not done twice."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from include.errors import DataError, WindtunnelError
from include.settings import Settings
from include.spec import load_family
from include.steps.document import RunDocument, make_document, run_key
from include.steps.entry import EXIT_FINAL, EXIT_OK, EXIT_RETRY, Pace, StepContext, run_step
from include.steps.fingerprint import canonical_json, fingerprint
from include.store.objects import open_store

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def document(**changes: Any) -> RunDocument:
    arguments: dict[str, Any] = {
        "step": "fit", "run": "train__x/manual", "spec": load_family("compliance_qa"), "inputs": {"seed": 1},
        "spec_parts": ("model",), "code_version": "c1", "created_at": NOW,
    }  # fmt: skip
    return make_document(**{**arguments, **changes})


@pytest.fixture
def context(settings: Settings) -> StepContext:
    return StepContext(document(), open_store(settings.store_url), settings)


def test_the_result_is_written_and_used_again(context: StepContext, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def step(_: StepContext) -> dict[str, Any]:
        calls.append(1)
        return {"digest": "abc"}

    assert run_step(context, step) == EXIT_OK
    assert run_step(context, step) == EXIT_OK
    assert len(calls) == 1
    assert json.loads(context.store.get(context.document.result_key))["outputs"] == {"digest": "abc"}
    assert "already done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (DataError("row 7 is empty", where="a.jsonl:7", hint="mend it"), EXIT_FINAL, "data"),
        (WindtunnelError("the store is away"), EXIT_RETRY, "system"),
        (ValueError("x" * 100_000), EXIT_RETRY, "system"),
    ],
)
def test_errors_are_recorded_and_bounded(
    context: StepContext, error: Exception, status: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(_: StepContext) -> dict[str, Any]:
        raise error

    assert run_step(context, step) == status
    record = json.loads(context.store.get(context.document.error_key))
    assert record["kind"] == kind
    assert len(record["message"]) <= 600
    assert not context.store.exists(context.document.result_key)


def test_the_fingerprint_follows_inputs_code_and_used_parts_of_the_spec_only() -> None:
    base = document()
    spec = base.spec
    other_model = spec.model_copy(update={"model": {**spec.model, "max_question_tokens": 99}})
    other_title = spec.model_copy(update={"title": "Another"})
    assert document(inputs={"seed": 2}).fingerprint != base.fingerprint
    assert document(code_version="c2").fingerprint != base.fingerprint
    assert document(spec=other_model).fingerprint != base.fingerprint
    assert document(slot=1).fingerprint != base.fingerprint
    assert document(spec=other_title).fingerprint == base.fingerprint
    assert document(run="another/run", context={"try_number": 3}).output == base.output


def test_documents_survive_json() -> None:
    made = document()
    assert RunDocument.model_validate_json(made.model_dump_json()) == made


def test_run_keys_are_safe() -> None:
    assert run_key("train__x", "manual__2026-11-02T03:00:00+00:00") == "train__x/manual__2026-11-02T03_00_00_00_00"
    assert ".." not in run_key("a/../..", "b").split("/")


def test_canonical_json_is_order_free_and_refuses_nan() -> None:
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1)
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


def test_the_time_that_is_left_follows_from_the_pace_since_the_step_was_first_seen() -> None:
    pace = Pace()
    assert pace.left(100.0, 500, 800, "steps") is None  # resumed: nothing was done in this process yet
    assert pace.left(110.0, 600, 800, "steps") == pytest.approx(20.0)
    assert pace.left(130.0, 800, 800, "steps") is None
    assert pace.left(131.0, 0, 1, "export") is None  # another unit has a pace of its own
    assert pace.left(141.0, 0.5, 1, "export") == pytest.approx(10.0)


def test_the_first_process_of_a_container_ends_when_it_is_told_to(settings: Settings, tmp_path: Path) -> None:
    """Else a pod that is deleted would go on for all of its grace."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may make no process namespace")
    (tmp_path / "sleeps.py").write_text(
        "import sys, time\n"
        "from include.steps.entry import main\n"
        "def work(context):\n"
        "    print('working', flush=True)\n"
        "    time.sleep(600)\n"
        "sys.exit(main({'fit': 'sleeps:work'}, 'sleeps'))\n"
    )
    made = document()
    store = open_store(settings.store_url)
    store.put(made.document_key, made.model_dump_json().encode())
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, str(tmp_path / "sleeps.py"), "fit", "--run",
         store.uri(made.document_key)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": f"{os.getcwd()}:{tmp_path}"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = list(itertools.takewhile(lambda line: line != b"working\n", process.stdout))
        (first,) = psutil.Process(process.pid).children()
        first.send_signal(signal.SIGTERM)
        left, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM, (said, left)
    finally:
        process.kill()
        process.wait()
