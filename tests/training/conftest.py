"""Steps of the training package as real processes, on a small rulebook and with most of the encoder frozen."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.settings import Settings
from include.spec import FamilySpec, load_family
from include.steps.document import RunDocument, make_document
from include.store.objects import ObjectStore, open_store
from tests.fakes.fork_server import ForkedProgram

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240
#: What the processes of these tests have imported when they start.
WARM = "tests.fakes.warm_training"


def small_spec(
    *, trainer: dict[str, Any] | None = None, sweep: dict[str, Any] | None = None, model: dict[str, Any] | None = None
) -> FamilySpec:
    """The family's spec, cut down: five of six layers frozen, short texts, single precision."""
    spec = load_family("compliance_qa")
    short = {"freeze_layers": 5, "max_question_tokens": 24, "max_passage_tokens": 40, "max_train_tokens": 40}
    basics = {
        "precision": "32-true",
        "accelerator": "cpu",
        "devices": 1,
        "batch_size": 8,
        "max_epochs": 2,
        "early_stopping_patience": None,
    }
    values = spec.model_dump(mode="json")
    values["model"] |= short | (model or {})
    values["trainer"] |= basics | (trainer or {})
    values["sweep"] |= {"trials": 3, "workers": 1, "max_epochs": 1} | (sweep or {})
    return FamilySpec.model_validate(values)


class Steps:
    """Starts steps of the training package and looks at what they left."""

    program = "tests.fakes.training_process"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store: ObjectStore = open_store(settings.store_url)
        self._running: list[ForkedProgram] = []

    def document(self, step: str, spec: FamilySpec, inputs: dict[str, Any] | None = None, slot: int = 0) -> RunDocument:
        values = {"dataset_version": "1.0.0", "dataset_digest": "d", "seed": 1} | (inputs or {})
        if step == "fit":
            values.setdefault("hyperparameters", {})
        parts = ("code", "model", "hyperparameters", "trainer", "sweep")
        document = make_document(
            step, "test/run", spec, values, spec_parts=parts, code_version="c", created_at=datetime.now(UTC), slot=slot
        )
        self.store.put(document.document_key, document.model_dump_json().encode())
        return document

    def start(self, document: RunDocument, variables: Mapping[str, str] | None = None) -> ForkedProgram:
        arguments = [document.step, "--run", self.store.uri(document.document_key)]
        environment = {**os.environ, **(variables or {})}
        log = self.settings.home / f"process-{len(self._running)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._running.append(ForkedProgram(WARM, self.program, arguments, environment, log))
        return self._running[-1]

    def run(self, document: RunDocument) -> dict[str, Any]:
        """Runs the step to its end and returns its outputs; fails the test, with the log, when the step fails."""
        process = self.start(document)
        log = process.communicate(timeout=SECONDS)[0].decode()
        assert process.returncode == 0, log
        return self.outputs(document)

    def outputs(self, document: RunDocument) -> dict[str, Any]:
        outputs: dict[str, Any] = json.loads(self.store.get(document.result_key))["outputs"]
        return outputs

    def error(self, document: RunDocument) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.store.get(document.error_key))
        return error

    def checkpoints(self, document: RunDocument) -> list[str]:
        return [key.rpartition("/")[2] for key in self.store.keys(f"{document.output}/checkpoints/step-")]

    def close(self) -> None:
        for process in self._running:
            process.close()


@pytest.fixture
def steps(settings: Settings) -> Iterator[Steps]:
    made = Steps(settings)
    yield made
    made.close()


def wait_for(what: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def children(pid: int) -> list[int]:
    """Processes that `pid` started and that still run."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
