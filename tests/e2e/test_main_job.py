"""From nothing to a champion that serves, and on from there: retrain by a monitor through kills, and a backfill.

These tests start real schedulers, servers and trainings and take minutes. They build on each other, in this order.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import psutil
import pytest

from include.release.candidate import champion, versions
from include.release.ledger import Event, Ledger
from include.store.database import open_database
from tests.e2e.conftest import FAMILY, Installation, ended, kill_pods_of, kill_task, started_by, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def first(installation: Installation) -> dict[str, Any]:
    """The record of the first demo."""
    done = installation.command("demo", "--exit")
    assert done.returncode == 0, done.stdout[-6000:]
    record: dict[str, Any] = json.loads((installation.home / "demo.json").read_text())
    return record


@pytest.fixture(scope="module")
def stack(installation: Installation, first: dict[str, Any]) -> Installation:
    """The same installation, started again."""
    assert installation.command("up", seconds=300).returncode == 0
    return installation


def test_a_newcomer_gets_a_champion_that_serves(first: dict[str, Any]) -> None:
    assert first["family"] == FAMILY
    assert first["dataset_version"] == "1.0.0"
    assert first["rows_in"] == first["rows_clean"] + first["rows_quarantined"] + first["rows_duplicate"] > 0
    assert first["verdict"] == "PASS"
    assert [stage["name"] for stage in first["stages"]] == ["shadow", "canary", "half", "full", "bake"]
    for stage in first["stages"]:
        assert (stage["verdict"], stage["errors"]) == ("PASS", 0)
        assert stage["requests"] > 0
    assert first["champion"]["version"] == first["model_version"] == "1.0.0"
    assert len(first["answers"]) == 3
    for metric in ("recall_at_10", "map_at_10", "hit_at_1", "citation_accuracy"):
        found = first["metrics"][metric]
        assert found["low"] <= found["value"] <= found["high"] and found["n"] > 100
    assert {"ingest", "publish", "fit", "evaluate", "register", "promote"} <= {t["task_id"] for t in first["tasks"]}


def test_nothing_is_left_running_after_exit(installation: Installation, first: dict[str, Any]) -> None:
    home = str(installation.home)
    left = [p for p in psutil.process_iter(["cmdline"]) if home in " ".join(p.info["cmdline"] or [])]
    assert left == []


def test_the_champion_answers_after_a_restart(stack: Installation, first: dict[str, Any]) -> None:
    asked = "Who must be told when a key officer leaves?"
    answer = until(lambda: stack.json("ask", FAMILY, asked), 60, "answer")
    assert answer["model_version"] == first["model_version"]
    assert answer["model_digest"] == first["model_digest"]
    assert answer["citations"]


def test_a_monitor_starts_a_retrain_that_survives_kills(stack: Installation, first: dict[str, Any]) -> None:
    """New rows lie at the source: the monitor asks, the training run starts by the event, and `kill -9` on Airflow's
    task processes and on pods in ingest, sweep, fit and release changes nothing: one version each, and it serves."""
    api, settings = stack.api(), stack.settings
    for kind in ("train", "release", "monitor"):
        api.set_paused(f"{kind}__{FAMILY}", False)
    monitor = api.trigger(f"monitor__{FAMILY}", {"profile": "demo"})
    train = started_by(api, monitor, f"train__{FAMILY}", seconds=300)

    kill_task(api, train, "ingest")
    until(lambda: kill_pods_of(stack.home, "sweep"), 300, "sweep pod to kill", pause=0.5)
    until(lambda: _fit_is_at(stack, 5), 600, "progress of fit")
    kill_task(api, train, "fit")
    time.sleep(1)
    assert kill_pods_of(stack.home, "fit") > 0, "the pod outlives Airflow's task process"
    kill_task(api, train, "register")

    traffic = stack.traffic(first["dataset_version"])
    try:
        assert ended(api, train, 1200).state == "success"
        release = started_by(api, train, f"release__{FAMILY}")
        kill_task(api, release, "shadow")
        assert ended(api, release, 600).state == "success"
        assert ended(api, monitor, 300).state == "success"
    finally:
        traffic.send_signal(signal.SIGTERM)
        summary = json.loads(traffic.communicate(timeout=30)[0].splitlines()[-1])
    assert summary["failed"] == 0, summary

    engine = open_database(settings.database_url)
    registered = [version for version in versions(settings, FAMILY) if not version.is_baseline]
    assert len(registered) == 2, "the killed registration happened once"
    new = registered[-1]
    assert champion(settings, FAMILY) == {"version": new.version, "digest": new.digest}
    promoted = Ledger(engine).entries(FAMILY, frozenset({Event.PROMOTED}))
    assert [entry.model_version for entry in promoted] == [new.version, first["model_version"]]
    assert new.record["champion"]["version"] == first["model_version"], "it was compared with the champion"
    published = [dataset["version"] for dataset in stack.json("data", "versions", FAMILY)]
    assert sorted(published) == ["1.0.0", new.dataset_version]
    answer = stack.json("ask", FAMILY, "Who must be told when a key officer leaves?")
    assert answer["model_version"] == new.version


def test_a_backfill_builds_and_compares_and_cannot_be_released(stack: Installation) -> None:
    api, settings = stack.api(), stack.settings
    before = champion(settings, FAMILY)
    known = len(versions(settings, FAMILY))
    asked = {
        "dag_id": f"train__{FAMILY}",
        "from_date": "2026-10-19T00:00:00Z",
        "to_date": "2026-10-20T00:00:00Z",
        "dag_run_conf": {"profile": "demo", "trials": 1, "seed": 7},
        "reprocess_behavior": "none",
        "max_active_runs": 1,
        "run_backwards": False,
    }
    made = api.request("POST", "/backfills", asked)
    run = until(
        lambda: next((r for r in api.runs(f"train__{FAMILY}") if r.run_id.startswith("backfill")), None), 60, "run"
    )
    assert ended(api, run, 900).state == "success", made
    assert champion(settings, FAMILY) == before
    assert api.runs_by_event(run.dag_id, run.run_id) == [], "no event, so no release"
    fresh = versions(settings, FAMILY)[known:]
    assert all(not version.releasable for version in fresh)


def _fit_is_at(stack: Installation, steps: int) -> bool:
    """Whether a fit has come so far."""
    for path in (stack.home / "store" / "runs").rglob("fit-0.progress.json"):
        record = json.loads(path.read_text())
        if path.stat().st_mtime > time.time() - 5 and record["done"] >= steps and os.path.exists(path):
            return True
    return False
