"""A pod's log is told line by line, each once, however the reads overlap or break off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from include.pods.pod_log import PodLog

START = 1_795_276_800.0  # 2026-11-21T16:00:00Z


def _line(second: int, text: str, fraction: str = "") -> bytes:
    return f"2026-11-21T16:00:{second:02d}{fraction}Z {text}\n".encode()


class Told(list[str]):
    def __init__(self) -> None:
        self.now = START
        self.log = PodLog(self.append, lambda: self.now)


def test_lines_are_told_without_their_time() -> None:
    told = Told()
    told.log.feed(_line(1, "one") + _line(2, "") + b"no time\n")
    assert told == ["one", "", "no time"]


@given(st.lists(st.integers(0, 200)))
def test_it_does_not_matter_how_the_bytes_come(cuts: list[int]) -> None:
    data = b"".join(_line(second, f"line {second}") for second in range(8))
    told, last = Told(), 0
    for cut in [*sorted(cuts), len(data)]:
        told.log.feed(data[last:cut])
        last = max(last, cut)
    assert told == [f"line {second}" for second in range(8)]


def test_what_is_read_again_is_not_told_again() -> None:
    told = Told()
    told.log.feed(_line(1, "one") + _line(2, "two") + b"2026-11-21T16:00:03Z thr")
    told.log.restart()  # the connection broke
    told.log.feed(_line(1, "one") + _line(2, "two") + _line(3, "three"))
    assert told == ["one", "two", "three"]


def test_lines_of_one_moment_are_all_told_and_none_twice() -> None:
    told = Told()
    told.log.feed(_line(1, "a") + _line(1, "b"))
    told.log.restart()
    told.log.feed(_line(1, "a") + _line(1, "b") + _line(1, "c") + _line(2, "d"))
    told.log.restart()
    told.log.feed(_line(1, "c") + _line(2, "d") + _line(2, "e"))
    assert told == ["a", "b", "c", "d", "e"]


def test_a_time_without_its_last_zeros_is_no_earlier() -> None:
    told = Told()
    told.log.feed(_line(1, "a", ".09") + _line(1, "b", ".1") + _line(1, "c", ".100000001"))
    told.log.restart()
    told.log.feed(_line(1, "c", ".100000001") + _line(2, "d"))
    assert told == ["a", "b", "c", "d"]


def test_the_last_line_may_have_no_end() -> None:
    told = Told()
    told.log.feed(b"2026-11-21T16:00:01Z the end")
    told.log.close()
    assert told == ["the end"]


def test_of_a_line_without_end_only_the_beginning_is_held() -> None:
    told = Told()
    told.log.feed(b"2026-11-21T16:00:01Z ")
    for _ in range(100):
        told.log.feed(b"x" * 10_000)
    told.log.feed(b"y\n" + _line(2, "after"))
    assert len(told) == 2 and told[0].endswith("... [cut]") and len(told[0]) < 20_000
    assert told[1] == "after"


def test_the_next_read_begins_early_enough() -> None:
    told = Told()
    assert told.log.since_seconds() is None
    told.log.feed(_line(10, "one"))
    told.now = START + 100
    since = told.log.since_seconds()
    assert since is not None and 100 <= since <= 115  # as the node's clock may be ahead of ours


def test_the_tail_is_bounded() -> None:
    told = Told()
    for second in range(1000):
        told.log.feed(f"2026-11-21T16:{second // 60:02d}:{second % 60:02d}Z {'x' * 1000}{second}\n".encode())
    assert len(told) == 1000 and len(told.log.tail) < 100
    assert max(map(len, told.log.tail)) <= 500
