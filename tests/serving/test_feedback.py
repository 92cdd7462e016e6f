"""Labels: once per answer, for the answer that was given, and for its shadow."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.release.routing import Role, RoutingTable, Variant
from include.serving.feedback import FeedbackBook
from include.serving.prediction_log import PredictionLog
from include.serving.spool import Spool
from include.serving.stats import Stats
from include.serving.tally import Lane, Place
from include.serving.wire import RequestError
from include.store.objects import LocalObjectStore
from tests.fakes.echo_family import EchoRuntime

CHAMPION = Variant(role=Role.CHAMPION, version="1.0.0", digest="a")
CHALLENGER = Variant(role=Role.CHALLENGER, version="2.0.0", digest="b")
SERVED = Place("echo", 1, Role.CHAMPION, "1.0.0", "a", Lane.LIVE)
SHADOW = Place("echo", 1, Role.CHALLENGER, "2.0.0", "b", Lane.SHADOW)
GOLD = {"citations": ["1:1"]}
RIGHT, WRONG = {"passages": ["1:1"]}, {"passages": ["2:2"]}


class Desk:
    def __init__(self, folder: Path, size: int = 10, runtime: EchoRuntime | None = EchoRuntime({})) -> None:
        self.stats = Stats()
        self.stats.open("echo", 1)
        self.log = PredictionLog(LocalObjectStore(folder), Spool(folder / "spool"), "i")
        now = datetime(2026, 11, 2, tzinfo=UTC)
        self.book = FeedbackBook(size, self.stats, self.log, lambda *_: runtime, lambda: now)

    def shown(self) -> dict[str, Any]:
        (found,) = self.stats.counts("echo", 1)
        assert found is not None
        return found.to_json(RoutingTable(champion=CHAMPION, challenger=CHALLENGER, shadow=True))


@pytest.mark.parametrize("shadow_first", [True, False])
def test_shadow_and_served_answer_make_a_pair_in_either_order(tmp_path: Path, shadow_first: bool) -> None:
    desk = Desk(tmp_path)
    desk.book.remember("r", SERVED, WRONG)

    def shadow() -> None:
        if late := desk.book.shadow("r", SHADOW, RIGHT):
            late()

    steps = [shadow, lambda: desk.book.give("r", GOLD, None)]
    for step in steps if shadow_first else reversed(steps):
        step()
    desk.book.give("r", GOLD, None)
    shown = desk.shown()
    assert shown["variants"]["champion"]["quality"]["hit_at_1"] == {"mean": 0.0, "n": 1, "sd": None}
    assert shown["variants"]["challenger"]["shadow"]["quality"]["hit_at_1"] == {"mean": 1.0, "n": 1, "sd": None}
    assert shown["paired"]["hit_at_1"] == {"mean": 1.0, "n": 1, "sd": None}


def test_the_first_truth_counts_and_helpful_is_counted_on_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.book.remember("r", SERVED, RIGHT)
    assert desk.book.give("r", None, True)["counted"] is True
    assert desk.book.give("r", GOLD, False) == {"request_id": "r", "labels": {"hit_at_1": 1.0}, "counted": True}
    assert desk.book.give("r", {"citations": []}, None) == {
        "request_id": "r",
        "labels": {"hit_at_1": 1.0},
        "counted": False,
    }
    champion = desk.shown()["variants"]["champion"]
    assert champion["labels"] == 1 and champion["quality"]["helpful"]["mean"] == 1.0
    assert desk.log.pending == 2


def test_the_same_feedback_from_many_threads_counts_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, size=1000)
    for number in range(200):
        desk.book.remember(f"r{number}", SERVED, RIGHT)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for number in range(200):
            desk.book.give(f"r{number}", GOLD, None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert desk.shown()["variants"]["champion"]["labels"] == 200
    assert desk.log.pending == 200


def test_only_the_newest_answers_are_remembered(tmp_path: Path) -> None:
    desk = Desk(tmp_path, size=3)
    for number in range(5):
        desk.book.remember(f"r{number}", SERVED, RIGHT)
    assert len(desk.book) == 3
    with pytest.raises(RequestError) as caught:
        desk.book.give("r1", GOLD, None)
    assert caught.value.status == 404
    assert desk.book.shadow("r1", SHADOW, RIGHT) is None  # too late: nothing happens
    assert desk.book.give("r4", GOLD, None)["counted"] is True


@pytest.mark.parametrize("label", [lambda *_: {"hit": float("nan")}, lambda *_: {"hit": "x"}, lambda *_: 1 / 0])
def test_labels_that_are_no_numbers_are_refused(tmp_path: Path, label: Any) -> None:
    runtime = EchoRuntime({})
    runtime.label = label  # type: ignore[method-assign]
    desk = Desk(tmp_path, runtime=runtime)
    desk.book.remember("r", SERVED, RIGHT)
    with pytest.raises(RequestError) as caught:
        desk.book.give("r", GOLD, None)
    assert caught.value.status == 422
    assert desk.shown()["variants"]["champion"]["labels"] == 0
