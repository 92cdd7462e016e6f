"""The step `drift`: quiet on the same traffic, loud on other traffic, silent on too little."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.monitoring import drift as module
from include.monitoring.drift import drift, reservoir
from include.release import registry
from include.release.registry import Registration, register
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.document import make_document
from include.steps.entry import StepContext
from include.store.objects import ObjectStore, open_store
from tests.fakes.tiny_family import TinyDataset, TinyRuntime, tiny_package, tiny_spec

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
Log = Callable[..., None]


class NoMlflow:
    def ensure_version(self, *_: Any) -> str:
        return "1"


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings.store_url)


@pytest.fixture
def champion(settings: Settings, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A champion that was tested on 200 questions."""
    dataset = TinyDataset(200)
    monkeypatch.setattr(module, "open_dataset", lambda settings, family, version: dataset)
    monkeypatch.setattr(registry, "MlflowRegistry", lambda url: NoMlflow())
    digest = tiny_package(store, tmp_path / "champion", skill=0.9)
    entry = Registration(
        family="tiny",
        fingerprint="f",
        digest=digest,
        verdict="PASS",
        releasable=True,
        dataset_version="1.0.0",
        code_version="c",
        record={},
        choose=lambda known: ("1.0.0", {}),
        description="",
        tags={},
    )
    register(settings, entry, actor="me", at=NOW)
    return {"version": "1.0.0", "digest": digest}


@pytest.fixture
def log(store: ObjectStore, champion: dict[str, str]) -> Log:
    """Writes live answers of the champion to the prediction log."""
    runtime = TinyRuntime({"skill": 0.9})

    def write(questions: list[str], name: str = "a", **changes: Any) -> None:
        outputs = runtime.predict({"question": questions})
        rows = [
            {
                "kind": "prediction",
                "request_id": f"{name}{index}",
                "at": (NOW - timedelta(hours=1)).isoformat(),
                "inputs": {"question": question},
                "outputs": {key: outputs[key][index] for key in ("score", "confidence")},
                "digest": champion["digest"],
                "shadow": False,
                "direct": False,
                "error": None,
                **changes,
            }
            for index, question in enumerate(questions)
        ]
        lines = "\n".join(json.dumps(row) for row in rows)
        store.put(f"predictions/tiny/2026-11-02/080000-{name}.jsonl", lines.encode())

    return write


@pytest.fixture
def context(settings: Settings, store: ObjectStore, champion: dict[str, str]) -> Callable[..., StepContext]:
    def make(spec: FamilySpec | None = None) -> StepContext:
        document = make_document(
            "drift",
            "monitor__tiny/test",
            spec or tiny_spec(),
            {"now": NOW.isoformat(), "champion": champion},
            spec_parts=("monitoring",),
            code_version="test",
            created_at=NOW,
        )
        return StepContext(document, store, settings)

    return make


def usual(count: int) -> list[str]:
    rng = random.Random(1)
    return [f"what does rule number {rng.randrange(200)} of the test set say" for _ in range(count)]


def strange(count: int) -> list[str]:
    return [
        f"kindly elucidate forthwith whichever statutory provisions concern zebra husbandry number {n}"
        for n in range(count)
    ]


@pytest.mark.slow
def test_the_same_kind_of_traffic_is_no_drift(
    context: Callable[..., StepContext], log: Log, store: ObjectStore
) -> None:
    log(usual(250))
    found = drift(context())
    assert not found["drifted"], found["why"]
    assert found["share"] == 0.0
    assert (found["n_live"], found["n_reference"]) == (250, 200)
    assert set(found["columns"]) == {
        "question_characters",
        "question_words",
        "question_unknown_share",
        "score",
        "confidence",
    }
    page = store.get(found["report_key"]).decode()
    assert "question_characters" in page


@pytest.mark.slow
def test_other_questions_are_drift(context: Callable[..., StepContext], log: Log) -> None:
    log(strange(250))
    found = drift(context())
    assert found["drifted"]
    assert {"question_characters", "question_unknown_share"} <= set(found["cause"]["columns"])
    assert found["columns"]["question_unknown_share"]["live_mean"] > 0.5
    assert not found["columns"]["score"]["drifted"]
    assert "asks for a retrain" in found["why"]


def test_too_few_requests_say_nothing(context: Callable[..., StepContext], log: Log) -> None:
    log(strange(199))
    found = drift(context())
    assert not found["drifted"]
    assert "199 live requests" in found["why"]
    assert found["report_key"] is None


def test_no_log_at_all_says_nothing(context: Callable[..., StepContext]) -> None:
    assert drift(context())["n_live"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"shadow": True},
        {"direct": True},
        {"digest": "another"},
        {"error": "it broke", "outputs": None},
        {"at": (NOW - timedelta(hours=25)).isoformat()},
        {"at": NOW.isoformat()},
    ],
)
def test_only_live_answers_of_the_champion_in_the_window_count(
    context: Callable[..., StepContext], log: Log, changes: dict[str, Any]
) -> None:
    log(usual(150), "a")
    log(usual(300), "b", **changes)
    assert drift(context())["n_live"] == 150


def test_memory_is_bounded_and_the_sample_is_fair() -> None:
    kept, count = reservoir(({"n": number} for number in range(20_000)), 1_000, random.Random(1))
    assert (len(kept), count) == (1_000, 20_000)
    mean = sum(row["n"] for row in kept) / 1_000
    assert 9_400 < mean < 10_600
    assert reservoir([], 10, random.Random(1)) == ([], 0)
