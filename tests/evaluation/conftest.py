"""An installation with tiny models, and the step `evaluate` on them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.evaluation import step
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.document import make_document
from include.steps.entry import StepContext
from include.store.objects import ObjectStore, open_store
from tests.fakes.tiny_family import TinyDataset, tiny_package, tiny_spec


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings.store_url)


@pytest.fixture
def package(store: ObjectStore, tmp_path: Path) -> Callable[..., str]:
    """Publishes a tiny model and returns its digest."""
    count = iter(range(100))
    return lambda **config: tiny_package(store, tmp_path / f"model{next(count)}", **config)


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> TinyDataset:
    made = TinyDataset()
    monkeypatch.setattr(step, "open_dataset", lambda settings, family, version, fold: made)
    return made


@pytest.fixture
def context(settings: Settings, store: ObjectStore, dataset: TinyDataset) -> Callable[..., StepContext]:
    """A run of the step; keyword arguments are its inputs."""

    def make(spec: FamilySpec | None = None, **inputs: Any) -> StepContext:
        values = {
            "dataset_version": dataset.version,
            "dataset_digest": dataset.digest,
            "champion": None,
            "baselines": ["guess"],
            "zero_shot": True,
            **inputs,
        }
        document = make_document(
            "evaluate",
            "train__tiny/test",
            spec or tiny_spec(),
            values,
            spec_parts=("model", "evaluation"),
            code_version="test",
            created_at=datetime(2026, 11, 2, tzinfo=UTC),
        )
        return StepContext(document, store, settings)

    return make
