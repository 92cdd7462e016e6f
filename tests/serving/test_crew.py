"""What the supervisor decides: who is live, and when all workers change to a new table."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from include.serving.board import Board, Column, stamp_of
from include.serving.crew import Crew, Report

ONE, TWO, THREE = (stamp_of(generation, whole=True) for generation in (1, 2, 3))


def holding(*stamps: int, caught_up: bool = True, loading: tuple[str, int] | None = None) -> Report:
    return Report(held={"echo": list(stamps)} if stamps else {}, caught_up=caught_up, loading=loading)


def crew_of(slots: int) -> tuple[Board, Crew]:
    board = Board(slots)
    crew = Crew(board)
    for slot in range(slots):
        crew.started(slot)
    return board, crew


def test_at_the_start_the_leader_alone_serves_as_soon_as_it_can() -> None:
    board, crew = crew_of(2)
    assert (board.leader, board.live, board.committed("echo")) == (0, [0], 0)
    crew.reported(0, holding(ONE))
    assert board.committed("echo") == ONE and board.live == [0]
    crew.reported(1, holding(caught_up=False))
    assert board.live == [0]
    crew.reported(1, holding(ONE))
    assert board.live == [0, 1]


def test_a_generation_serves_when_every_live_worker_has_it() -> None:
    board, crew = crew_of(3)
    for slot in (0, 1, 2):
        crew.reported(slot, holding(ONE))
    crew.reported(0, holding(ONE, TWO))
    crew.reported(1, holding(ONE, TWO, THREE))
    assert board.committed("echo") == ONE and board.proven("echo") == THREE
    assert crew.behind(2) and crew.behind(0) and not crew.behind(1)
    crew.reported(2, holding(ONE, TWO))
    assert board.committed("echo") == TWO


def test_a_worker_that_dies_holds_nobody_up_and_comes_back_with_what_serves() -> None:
    board, crew = crew_of(2)
    for slot in (0, 1):
        crew.reported(slot, holding(ONE))
    crew.reported(0, holding(ONE, TWO))
    crew.died(1, now=0.0)
    assert board.committed("echo") == TWO and board.live == [0]
    crew.started(1)
    crew.reported(1, holding(ONE))
    assert board.live == [0], "it would answer with a table that no longer serves"
    crew.reported(1, holding(TWO, caught_up=False))
    assert board.live == [0]
    crew.reported(1, holding(TWO))
    assert board.live == [0, 1]


def test_when_all_died_nobody_answers_before_it_has_what_served() -> None:
    board, crew = crew_of(2)
    crew.reported(0, holding(ONE))
    crew.died(0, now=0.0)
    crew.died(1, now=0.0)
    crew.started(0)
    assert board.live == [] and board.committed("echo") == ONE
    crew.reported(0, holding(ONE))
    assert board.live == [0]


def test_another_worker_leads_when_the_leader_dies_and_goes_on_leading() -> None:
    board, crew = crew_of(3)
    for slot in (0, 1, 2):
        crew.reported(slot, holding(ONE))
    crew.died(0, now=0.0)
    assert board.leader == 1
    crew.started(0)
    crew.reported(0, holding(ONE))
    assert board.leader == 1


def test_what_workers_died_of_is_not_tried_again_for_ever_longer() -> None:
    board, crew = crew_of(2)
    now = time.monotonic()
    pauses = []
    for _ in range(7):
        crew.started(1)
        crew.reported(1, holding(ONE, loading=("echo", TWO)))
        crew.died(1, now)
        (crash,) = crew.to_json()["crashes"]
        assert (crash["family"], crash["stamp"]) == ("echo", TWO)
        pauses.append(round(crash["again_at"] - now))
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    crew.reported(0, holding(ONE, TWO))
    assert board.committed("echo") == TWO and crew.to_json()["crashes"] == []


def test_the_leader_knows_best_what_failed() -> None:
    _, crew = crew_of(2)
    crew.reported(0, Report(failed={"echo": {"generation": 3, "error": "new"}}, ledger_error="away"))
    crew.reported(1, Report(failed={"echo": {"generation": 2, "error": "old"}, "b": {"generation": 1, "error": "b"}}))
    shown = crew.to_json()
    assert shown["failed"]["echo"]["generation"] == 3 and "b" in shown["failed"]
    assert shown["ledger_error"] == "away"


class Simulated:
    """Workers that load in any order, die and start at any moment, as `Watcher` would do it."""

    def __init__(self, slots: int) -> None:
        self.board, self.crew = crew_of(slots)
        self.held: list[set[int]] = [set() for _ in range(slots)]
        self.running = [True] * slots
        self.newest = 0
        self.served = 0

    def step(self, slot: int, action: str) -> None:
        board, held = self.board, self.held[slot]
        if action == "die" and self.running[slot]:
            self.running[slot], self.held[slot] = False, set()
            self.crew.died(slot, now=0.0)
        elif action == "start" and not self.running[slot]:
            self.running[slot] = True
            self.crew.started(slot)
        elif action == "route":
            self.newest += 1
        elif action == "load" and self.running[slot]:
            committed = board.committed("echo")
            target = stamp_of(self.newest, whole=True) if slot == board.leader and self.newest else board.proven("echo")
            held |= {stamp for stamp in (committed, target) if stamp}
            self.held[slot] = {stamp for stamp in held if stamp >= committed}
            self.crew.reported(slot, holding(*self.held[slot], caught_up=board.settled or slot == board.leader))

    def check(self) -> None:
        committed = self.board.committed("echo")
        assert committed >= self.served, "what serves went back"
        self.served = committed
        for slot in self.board.live:
            assert self.running[slot]
            assert not committed or committed in self.held[slot], "a live worker cannot answer"


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["load", "load", "route", "die", "start"])), max_size=120))
def test_a_live_worker_always_has_what_serves_and_what_serves_never_goes_back(
    steps: Sequence[tuple[int, str]],
) -> None:
    gateway = Simulated(3)
    for slot, action in steps:
        gateway.step(slot, action)
        gateway.check()
    for slot in range(3):
        gateway.step(slot, "start")
    for slot in (gateway.board.leader, 0, 1, 2, 0, 1, 2):
        gateway.step(slot, "load")
    gateway.check()
    if gateway.newest:
        assert gateway.board.live == [0, 1, 2]
        assert gateway.board.committed("echo") == stamp_of(gateway.newest, whole=True)


def test_the_board_keeps_what_everybody_sees() -> None:
    board = Board(2)
    assert dict(board.status) == {} and list(board.families) == []
    for number in range(40):
        board.commit(f"family-{number}", number + 1)
        board.publish({"number": number, "failed": {"text": "x" * number * 100}})
        assert board.status["number"] == number
    assert [board.committed(f"family-{number}") for number in (0, 39)] == [1, 40]
    board.publish({"workers": [], "failed": {"echo": "x" * (1 << 20)}})
    assert dict(board.status) == {"workers": [], "failed": {}}  # too much to say: the rest is still said
    board.write(0, Column.TURNED_AWAY, 3)
    board.write(1, Column.TURNED_AWAY, 4)
    assert board.sum(Column.TURNED_AWAY) == 7
