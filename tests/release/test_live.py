"""A rollout on a real gateway with real traffic: the good candidate arrives, the bad one does not, nobody notices."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.release import candidate, engine, judging, load_check, registry
from include.release.ledger import Event, Ledger
from include.release.rollback import revert
from include.settings import PROJECT_ROOT, Settings
from include.store.database import open_database
from include.store.objects import open_store
from tests.fakes.tiny_family import FAMILY, TinyDataset, TinyFamily, tiny_package, tiny_spec
from tests.release.conftest import FakeMlflow

pytestmark = pytest.mark.slow


@dataclass
class Traffic:
    """Asks without a pause and gives labelled feedback, in two threads; counts what came back."""

    url: str
    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._threads = [threading.Thread(target=self._run, args=(name,), daemon=True) for name in range(2)]
        for thread in self._threads:
            thread.start()

    def _run(self, name: int) -> None:
        questions = list(TinyFamily().requests(TinyDataset(200), "test"))
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            number = 0
            while not self._stop.is_set():
                _, inputs, truth = questions[number % len(questions)]
                number += 1
                answer = client.post("/v1/ask", json={**inputs, "unit_id": f"{name}-{number}"})
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    record = answer.json()
                    self.versions[record["model_version"]] += 1
                    client.post("/v1/feedback", json={"request_id": record["request_id"], "truth": truth})
                time.sleep(0.002)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=20)


@pytest.fixture
def live(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An installation with a gateway process on it."""
    mlflow = FakeMlflow()
    monkeypatch.setattr(registry, "MlflowRegistry", lambda url: mlflow)
    open_database(settings.database_url)
    log = tmp_path / "gateway.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "include.serving", "--port", "0"],
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    url = process.stdout.readline().strip().rpartition(" ")[2]
    assert url.startswith("http"), log.read_text()
    yield replace(settings, gateway_url=url)
    process.terminate()
    process.wait(timeout=30)


def spec() -> Any:
    stage = {"min_seconds": 1, "max_seconds": 40, "min_requests": 60, "min_labels": 40}
    few = {**stage, "min_requests": 15, "min_labels": 10}
    stages = [
        {"name": "shadow", "traffic": 0, "shadow": True, **stage},
        {"name": "canary", "traffic": 0.1, **few},
        {"name": "full", "traffic": 1.0, **stage},
    ]
    guardrails = {"latency_floor_ms": 2000}  # the machine may be busy with other tests
    return tiny_spec(release={"bootstrap": "half", "stages": stages, "guardrails": guardrails})


def registered(settings: Settings, folder: Path, **config: Any) -> str:
    """A candidate that passed its gates, whatever it is worth."""
    store = open_store(settings.store_url)
    digest = tiny_package(store, folder / f"{config}", **config)
    baseline = tiny_package(store, folder / "baseline", skill=0.5, seed=9)
    metric = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 100, "sd": 0.3}
    evaluation = {
        "summary": {"hit_at_1": metric},
        "comparisons": {
            name: {"hit_at_1": {"difference": 0.1, **metric, "low": 0.05}} for name in ("guess", "champion")
        },
        "baselines": {"half": {"digest": baseline, "metrics": {"hit_at_1": metric}}},
        "champion": candidate.champion(settings, FAMILY),
        "signature": {},
        "package_bytes": 1,
        "report_key": "report",
        "card_key": "card",
        "answers_key": None,
        "n": 100,
    }
    judged: dict[str, Any] = {
        "run": "run",
        "dataset": {"dataset_version": "1.0.0", "dataset_digest": "d" * 64},
        "fit": {"digest": digest},
        "evaluation": evaluation,
        "backfill": False,
        "at": datetime.now(UTC),
    }
    decision = candidate.judge_candidate(settings, spec(), **judged, attempt=1, adjusted={})
    entry = candidate.register_candidate(settings, spec(), **judged, actor="test", sweep={}, decision=decision)
    return str(entry["model_version"])


def fly(settings: Settings, version: str) -> str:
    """The release as the DAG runs it; returns the last verdict."""
    now = lambda: datetime.now(UTC)  # noqa: E731
    begun = engine.begin(settings, spec(), version, run=f"release/{version}", actor="test", at=now())
    rollout = begun["rollout"]
    for stage in begun["stages"]:
        engine.enter_stage(settings, spec(), rollout, stage, actor="test", at=now())
        while (found := judging.judge(settings, spec(), rollout, stage, at=now()))["wait"]:
            time.sleep(0.2)
        if found["verdict"] != "PASS":
            engine.roll_back(settings, spec(), rollout, reason=found["why"][0], actor="test", at=now())
            return str(found["verdict"])
    engine.promote(settings, spec(), rollout, actor="test", at=now())
    return "PASS"


def test_good_arrives_bad_goes_back_and_no_request_fails(live: Settings, tmp_path: Path) -> None:
    good = registered(live, tmp_path, skill=0.9)
    traffic = Traffic(live.gateway_url)
    while traffic.statuses[200] == 0:  # nothing serves before the bootstrap
        if not traffic.statuses:
            time.sleep(0.05)
            continue
        assert fly(live, good) == "PASS"
        break
    before = traffic.statuses.copy()
    bad = registered(live, tmp_path, skill=0.1, seed=3)
    assert fly(live, bad) == "FAIL"
    reverted = revert(live, FAMILY, to=None, reason="drill", actor="on call", at=datetime.now(UTC))
    time.sleep(0.3)
    traffic.stop()

    during = traffic.statuses - before
    assert set(during) == {200}, f"a request failed: {during}"
    assert during[200] > 100
    assert reverted["to"] == "0.1.0"
    ledger = Ledger(open_database(live.database_url))
    judged = {
        (entry.model_version, entry.record["stage"]): entry.record
        for entry in ledger.entries(FAMILY, frozenset({Event.STAGE_JUDGED}))
    }
    assert [judged[good, stage]["verdict"] for stage in ("shadow", "canary", "full")] == ["PASS"] * 3
    assert judged[good, "shadow"]["paired"]["hit_at_10"]["n"] >= 40
    assert judged[good, "full"]["champion"]["labels"] > 0
    assert judged[bad, "shadow"]["verdict"] == "FAIL"
    assert traffic.versions[bad] == 0, "a candidate in the shadow answered somebody"
    assert {good, "0.1.0"} <= traffic.versions.keys()
    events = [entry.event for entry in ledger.entries(FAMILY)]
    assert events.count(Event.ROLLED_BACK) == 2
    assert events.count(Event.PROMOTED) == 1


def test_a_candidate_that_does_not_load_never_answers(
    live: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registered(live, tmp_path, skill=0.9) == "1.0.0"
    broken = registered(live, tmp_path, skill=0.9, outputs=["what it never gives"])
    with pytest.raises(load_check.LoadCheckFailed, match="outputs that it does not give"):
        engine.begin(live, spec(), broken, run="release/x", actor="test", at=datetime.now(UTC))

    # and where it loads on the worker, but not in the gateway
    monkeypatch.setattr(load_check, "check", lambda *_, **__: {"verdict": "PASS", "why": []})
    begun = engine.begin(live, spec(), broken, run="release/y", actor="test", at=datetime.now(UTC))
    with pytest.raises(Exception, match="cannot load generation"):
        engine.enter_stage(live, spec(), begun["rollout"], "shadow", actor="test", at=datetime.now(UTC))
    found = engine.roll_back(live, spec(), begun["rollout"], reason="no", actor="test", at=datetime.now(UTC))
    assert (found["changed"], found["to"]) == (True, "0.1.0")
    answer = httpx.post(f"{live.gateway_url}/v1/ask", json={"question": "what"}, trust_env=False)
    assert answer.json()["model_version"] == "0.1.0"
