"""A small source of deliveries, and the data steps run on it as a pipeline run does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.data.datasets import Dataset, open_dataset
from include.data.ingest import ingest
from include.data.publish import publish
from include.data.validate import validate
from include.settings import Settings
from include.spec.models import AnyFamilySpec, FamilySpec
from include.steps.document import RunDocument, make_document
from include.steps.entry import StepContext
from include.store.objects import ObjectStore, open_store

ROOT = Path(__file__).resolve().parents[2]
FAMILY = "compliance_qa"
STEPS: dict[str, tuple[Callable[[StepContext], dict[str, Any]], tuple[str, ...]]] = {
    "ingest": (ingest, ("data",)),
    "validate": (validate, ("data",)),
    "publish": (publish, ("data", "split")),
}


def make_spec(**changes: Any) -> FamilySpec:
    """A spec with the data side of compliance_qa; `changes` replace top-level keys."""
    values: dict[str, Any] = {
        "family": FAMILY,
        "title": "Compliance questions",
        "description": "Answers with citations.",
        "owner": {"team": "tests"},
        "code": "include.families.compliance_qa.data_part:DataPart",
        "data": {
            "suite": "compliance_qa",
            "tables": {
                "passages": {"key": "passage_key", "min_valid_rate": 0.9},
                "questions": {"key": "question_id", "min_valid_rate": 0.5},
            },
        },
        "split": {"table": "questions", "by": "question_id", "train": 0.7, "validation": 0.1, "test": 0.2, "seed": 3},
        "sweep": {"metric": "recall", "space": {"rate": {"kind": "float", "low": 0, "high": 1}}},
        "evaluation": {"gates": [{"name": "g", "metric": "recall", "operator": "gt", "threshold": 0}]},
        "release": {"stages": [{"name": "full", "traffic": 1, "min_seconds": 0, "max_seconds": 1}]},
    }
    return FamilySpec.model_validate(values | changes)


class Deliveries:
    """A source in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, day: str, documents: dict[str, Sequence[str]], questions: Sequence[object]) -> None:
        """`documents` maps ids to passage texts; a question is a record, or bytes as they are."""
        target = self.folder / day
        (target / "documents").mkdir(parents=True, exist_ok=True)
        for name, texts in documents.items():
            passages = [{"passage_id": f"{name}-1.{n}", "heading": "", "text": text} for n, text in enumerate(texts, 1)]
            record = {"document_id": name, "title": name, "domain": "d", "passages": passages}
            (target / "documents" / f"{name}.json").write_text(json.dumps(record))
        lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in questions]
        (target / "questions.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def ask(number: int, *citations: str, **changes: Any) -> dict[str, Any]:
    """A question record."""
    made: dict[str, Any] = {
        "question_id": f"q-{number:03d}",
        "question": f"What of case {number}?",
        "answer": f"Answer {number}.",
        "citations": list(citations) or ["AA-1.1"],
    }
    return made | changes


class Pipeline:
    """Runs steps in this process, or in one of their own."""

    def __init__(self, settings: Settings, source: Path | str | None, spec: AnyFamilySpec | None = None) -> None:
        self.settings = settings
        self.source = None if source is None else str(source)
        self.spec = spec or make_spec()
        self.code_version = "test"

    @property
    def store(self) -> ObjectStore:
        return open_store(self.settings.store_url)

    def document(self, step: str, inputs: dict[str, Any], run: str = "r1") -> RunDocument:
        made = make_document(
            step,
            run,
            self.spec,
            inputs,
            spec_parts=STEPS[step][1],
            code_version=self.code_version,
            created_at=datetime(2026, 11, 9, tzinfo=UTC),
        )
        self.store.put(made.document_key, made.model_dump_json().encode())
        return made

    def step(
        self, step: str, inputs: dict[str, Any], run: str = "r1", store: ObjectStore | None = None
    ) -> dict[str, Any]:
        """Outputs of a step, computed here and now; errors come out as they are."""
        document = self.document(step, inputs, run)
        outputs = STEPS[step][0](StepContext(document, store or self.store, self.settings))
        made: dict[str, Any] = json.loads(json.dumps(outputs, allow_nan=False))
        return made

    def run(
        self, run: str = "r1", since: str | None = None, until: str | None = None, store: ObjectStore | None = None
    ) -> dict[str, Any]:
        """Outputs of `publish` after all three steps."""
        given = {"run": run, "source": self.source, "since": since, "until": until}
        ingested = self.step("ingest", given, run, store)
        validated = self.step("validate", {"deliveries": ingested["deliveries"]}, run, store)
        return self.step("publish", {"checked": validated["checked"], "source": self.source}, run, store)

    def start(self, step: str, inputs: dict[str, Any], run: str = "r1") -> tuple[subprocess.Popen[str], RunDocument]:
        """The step as a process of its own, through its real entry point."""
        document = self.document(step, inputs, run)
        command = [sys.executable, "-m", "include.data", step, "--run", self.store.uri(document.document_key)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=_environment(self.settings),
        )
        return process, document

    def dataset(self, version: str) -> Dataset:
        return open_dataset(self.settings, self.spec.family, version)


def _environment(settings: Settings) -> dict[str, str]:
    environment = {**os.environ, **settings.to_env(), "PYTHONPATH": str(ROOT)}
    if environment.pop("PYTHONDONTWRITEBYTECODE", None):  # compiling Great Expectations anew takes longer than any test
        environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "windtunnel-test-bytecode")
    return environment


@pytest.fixture
def source(tmp_path: Path) -> Deliveries:
    """See `fill_source`."""
    return fill_source(tmp_path / "source")


def fill_source(folder: Path) -> Deliveries:
    """Two weekly deliveries with faults: 26 records in the first, 12 in the second."""
    made = Deliveries(folder)
    made.add(
        "2026-10-12",
        {"AA": [f"Rule {n} of AA." for n in range(5)], "BB": [f"Rule {n} of BB." for n in range(5)]},
        [
            *(ask(n, f"AA-1.{n % 5 + 1}") for n in range(10)),
            ask(3, "AA-1.4"),
            ask(20, "AA-1.9"),
            ask(21, answer=""),
            b'{"question_id": "q-022", "question": "caf\xe9"}',
            b'{"question_id": "q-023"',
            ask(24, question="Call me on 555-0142?"),
        ],
    )
    made.add(
        "2026-10-19",
        {"CC": [f"Rule {n} of CC." for n in range(4)]},
        [*(ask(n, "CC-1.1", f"BB-1.{n % 5 + 1}") for n in range(30, 36)), ask(1, "AA-1.2"), ask(36, citations=[])],
    )
    return made


@pytest.fixture
def pipeline(settings: Settings, source: Deliveries) -> Pipeline:
    return Pipeline(settings, source.folder)
