"""The demo: what it trains on, what it writes down, how it ends."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from include.cli.demo import command
from include.cli.demo.driver import Refused
from include.cli.demo.plan import FIRST_UNTIL, DemoPlan, make_plan, remember
from include.cli.demo.record import KEYS, DemoRecord, stage_records
from include.cli.demo.summary import show_summary
from include.cli.demo.traffic import Traffic, read_summary
from include.cli.follow import Snapshot
from include.cli.output import Output
from include.embedded.airflow_api import Run, Task
from include.errors import UserError
from include.settings import PROJECT_ROOT, Settings

FAMILY = "compliance_qa"
OPTIONS: dict[str, Any] = {"profile": "demo", "source": None, "seed": None, "trials": None, "rate": 60}


def plan(history: Path, **changed: Any) -> DemoPlan:
    return make_plan(history, FAMILY, **{**OPTIONS, **changed})


# Plan --------------------------------------------------------------------------------------------------------------
def test_the_first_demo_leaves_a_delivery_for_the_second(tmp_path: Path) -> None:
    history = tmp_path / "demos.jsonl"
    first = plan(history)
    assert (first.seed, first.until) == (0, FIRST_UNTIL)
    assert plan(history) == first, "a demo that came to no verdict is done again as it was"
    remember(history, {"family": FAMILY, "verdict": "PASS"})
    remember(history, {"family": "another"})
    second = plan(history)
    assert (second.seed, second.until, second.conf["reason"]) == (1, None, "demo 2")


def test_own_data_is_taken_whole(tmp_path: Path) -> None:
    made = plan(tmp_path / "none", source=str(tmp_path))
    assert made.until is None
    assert made.conf["source"] == str(tmp_path.resolve())
    assert plan(tmp_path / "none", source="s3://bucket/x").source == "s3://bucket/x"


def test_own_data_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing at"):
        plan(tmp_path / "none", source=str(tmp_path / "nowhere"))


def test_a_history_that_a_crash_cut_off_still_counts(tmp_path: Path) -> None:
    history = tmp_path / "demos.jsonl"
    remember(history, {"family": FAMILY})
    with history.open("a") as file:
        file.write('{"family": "compl')
    assert plan(history).seed == 1


def test_the_sample_has_deliveries_on_both_sides_of_the_first_demos_limit() -> None:
    sample = PROJECT_ROOT / "include" / "families" / FAMILY / "sample"
    days = sorted(path.name for path in sample.rglob("2026-*") if path.is_dir())
    assert len([day for day in days if day < FIRST_UNTIL]) == 3
    assert len([day for day in days if day >= FIRST_UNTIL]) == 1


# Record -------------------------------------------------------------------------------------------------------------
def filled() -> DemoRecord:
    record = DemoRecord(
        family=FAMILY,
        dataset={
            "dataset_version": "1.0.0",
            "rows_in": 10,
            "rows_clean": 9,
            "rows_quarantined": 1,
            "rows_duplicate": 0,
            "reasons": {"x": 1},
        },
        chosen={"hyperparameters": {"lr": 0.1}},
        evaluation={"summary": {"recall_at_10": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 100, "sd": 1}}},
        gate={"verdict": "PASS", "why": ["better"]},
        registered={"model_version": "1.0.0", "digest": "d" * 64},
        champion={"version": "1.0.0", "digest": "d" * 64, "generation": 7},
        wall_seconds=100.0,
        startup_seconds=10.0,
        attempts=1,
    )
    judged = {
        "stage": "shadow",
        "traffic": 0.0,
        "shadow": True,
        "requests": 5,
        "errors": 0,
        "verdict": "PASS",
        "seconds": 2,
    }
    record.stages = stage_records([{**judged, "rollout": "a", "champion": {"requests": 6, "errors": 0}}])
    record.answers = [{"question": "q", "answer": "a", "citations": []}]
    return record


def test_the_record_has_every_promised_key() -> None:
    document = filled().to_json()
    assert set(KEYS) <= set(document)
    assert document["metrics"] == {"recall_at_10": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 100}}
    assert {"name", "traffic", "requests", "errors", "verdict", "seconds"} <= set(document["stages"][0])
    json.dumps(document, allow_nan=False)


def test_a_record_of_a_demo_that_failed_early_has_every_key_too() -> None:
    document = DemoRecord(family=FAMILY).to_json()
    assert set(KEYS) <= set(document)
    assert document["metrics"] == {} and document["verdict"] is None


def test_tasks_are_kept_in_order_with_their_seconds() -> None:
    from datetime import UTC, datetime, timedelta

    start = datetime(2026, 11, 2, tzinfo=UTC)
    tasks = [
        Task("ingest", -1, "success", 1, start, start + timedelta(seconds=2)),
        Task("sweep", 1, "success", 2, start, start + timedelta(seconds=3)),
        Task("retry", -1, "skipped", 0, start, start),
        Task("gate", -1, "upstream_failed", 0, None, None),
    ]
    record = DemoRecord(family=FAMILY)
    record.add_tasks(Snapshot(Run("train", "r", "success", None, None), tasks))
    assert [(task["task_id"], task["seconds"], task["tries"]) for task in record.tasks] == [
        ("ingest", 2, 1),
        ("sweep[1]", 3, 2),
    ]


def test_only_the_newest_rollout_of_a_version_is_shown() -> None:
    judged = {"stage": "shadow", "traffic": 0.0, "requests": 1, "errors": 0, "verdict": "PASS", "seconds": 1}
    old, new = {**judged, "rollout": "old", "verdict": "FAIL"}, {**judged, "rollout": "new"}
    assert [stage["verdict"] for stage in stage_records([old, new])] == ["PASS"]
    assert stage_records([]) == []


def test_at_full_traffic_the_champions_earlier_counts_are_not_this_stages() -> None:
    judged = {"stage": "full", "traffic": 1.0, "requests": 1, "errors": 0, "verdict": "PASS", "seconds": 1}
    assert stage_records([{**judged, "champion": {"requests": 900, "errors": 0}}])[0]["champion"] is None


@pytest.mark.parametrize("record", [filled(), DemoRecord(family=FAMILY, wall_seconds=3.0)])
def test_the_summary_copes_with_whatever_is_known(record: DemoRecord, capsys: pytest.CaptureFixture[str]) -> None:
    show_summary(record.to_json(), Output())
    assert FAMILY in capsys.readouterr().out


# Traffic ------------------------------------------------------------------------------------------------------------
def test_the_traffics_report_is_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('waiting\n{"sent": 3, "failed": 0}\n')
    assert read_summary(log) == {"sent": 3, "failed": 0}
    for text in ("", "no json", "[1]"):
        log.write_text(text)
        assert read_summary(log) is None


def test_traffic_that_was_never_started_has_nothing_to_stop(tmp_path: Path) -> None:
    traffic = Traffic("http://127.0.0.1:1", FAMILY, 1, {}, tmp_path / "log")
    assert traffic.stop() is None and not traffic.ended


# Command ------------------------------------------------------------------------------------------------------------
class FakeStack:
    def __init__(self) -> None:
        self.stopped = 0

    def view(self) -> None:
        return None

    def stop(self) -> bool:
        self.stopped += 1
        return True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type:
    """A demo without a system: does what the test says."""

    class FakeDemo:
        outcome: BaseException | None = None
        stack = FakeStack()

        def __init__(self, settings: Settings, plan: DemoPlan, record: DemoRecord, out: Output) -> None:
            self.record = record

        def run(self) -> None:
            for name, value in vars(filled()).items():
                if name not in ("wall_seconds", "plan"):
                    setattr(self.record, name, value)
            if self.outcome is not None:
                raise self.outcome

    monkeypatch.setattr(command, "Demo", FakeDemo)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    return FakeDemo


def run(settings: Settings) -> tuple[int, dict[str, Any]]:
    arguments = argparse.Namespace(family=FAMILY, exit=True, **OPTIONS)
    code = command.demo(arguments, Output())
    return code, json.loads((settings.home / "demo.json").read_text())


def test_success(settings: Settings, fake: Any) -> None:
    code, document = run(settings)
    assert (code, document["exit_code"], document["error"]) == (0, 0, None)
    assert set(KEYS) <= set(document)
    assert document["wall_seconds"] is not None
    assert fake.stack.stopped == 1
    assert len((settings.home / "demos.jsonl").read_text().splitlines()) == 1


def test_a_refused_candidate_is_no_failure_and_counts_as_a_demo(settings: Settings, fake: Any) -> None:
    fake.outcome = Refused("the candidate's verdict is FAIL after 2 attempts")
    code, document = run(settings)
    assert (code, document["exit_code"]) == (3, 3)
    assert "FAIL" in document["error"]["message"]
    assert len((settings.home / "demos.jsonl").read_text().splitlines()) == 1


def test_a_failure_is_written_down_and_does_not_count(
    settings: Settings, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.outcome = UserError("the source is empty", hint="give another", tail="last line of the log")
    code, document = run(settings)
    assert (code, document["exit_code"], document["error"]["hint"]) == (1, 1, "give another")
    assert "last line of the log" in capsys.readouterr().err
    assert fake.stack.stopped == 1
    assert not (settings.home / "demos.jsonl").exists()


@pytest.mark.parametrize("outcome", [KeyboardInterrupt(), RuntimeError("a bug")])
def test_the_stack_is_stopped_whatever_happens(settings: Settings, fake: Any, outcome: BaseException) -> None:
    fake.outcome = outcome
    fake.stack = FakeStack()
    if isinstance(outcome, KeyboardInterrupt):
        arguments = argparse.Namespace(family=FAMILY, exit=True, **OPTIONS)
        assert command.demo(arguments, Output()) == 130
    else:
        with pytest.raises(RuntimeError):
            run(settings)
    assert fake.stack.stopped == 1
