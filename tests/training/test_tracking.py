"""MLflow is told of a training, and never while a process could be forked with the thread's locks."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.settings import Settings
from include.steps.document import RunDocument, make_document
from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training import fit
from include.training.tracking import Tracker
from tests.fakes.tiny_family import tiny_spec


@pytest.fixture
def document() -> RunDocument:
    at = datetime(2026, 11, 2, tzinfo=UTC)
    return make_document("fit", "run", tiny_spec(), {}, spec_parts=("trainer",), code_version="c", created_at=at)


def test_it_talks_once_processes_are_forked_and_not_before(
    settings: Settings, document: RunDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    talks = threading.Event()
    monkeypatch.setattr(Tracker, "_talk", lambda tracker: talks.set())
    with Tracker(settings.mlflow_url, document, {}, {}) as tracker:
        assert not talks.wait(0.2)
        tracker.begin()
        assert talks.wait(60)


def test_a_training_that_ended_before_is_told_as_well(
    settings: Settings, document: RunDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    talks = threading.Event()
    monkeypatch.setattr(Tracker, "_talk", lambda tracker: talks.set())
    with pytest.raises(ZeroDivisionError), Tracker(settings.mlflow_url, document, {}, {}):
        raise ZeroDivisionError
    assert talks.is_set()


def test_fit_lets_it_begin_while_the_processes_train(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not when it starts them."""
    order: list[str] = []

    def run_ranks(work: object, devices: int, threads: int, scratch: object, idle: object, gang: object) -> None:
        order.append("forked")
        assert callable(idle)
        idle()
        raise ZeroDivisionError

    class Told:
        def begin(self) -> None:
            order.append("begun")

        def metrics(self, event: object) -> None:
            raise NotImplementedError

    monkeypatch.setattr(fit, "run_ranks", run_ranks)
    monkeypatch.setattr(fit, "load_trainer", lambda spec: type("Trainer", (), {"preload": lambda *_: None})())
    monkeypatch.setattr(fit, "fetch_origins", lambda *_: None)
    at, spec = datetime(2026, 11, 2, tzinfo=UTC), tiny_spec()
    made = make_document("fit", "run", spec, {"seed": 1}, spec_parts=("trainer",), code_version="c", created_at=at)
    context = StepContext(made, open_store(settings.store_url), settings)
    with pytest.raises(ZeroDivisionError):
        fit._trained(context, spec, {}, tmp_path, Told())  # type: ignore[arg-type]
    assert order[:2] == ["forked", "begun"]
