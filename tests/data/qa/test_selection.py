"""People are asked about what teaches most, and not twice about the same."""

from __future__ import annotations

from include.data.qa.selection import choose

TEXTS = [
    "The licence fee falls due in June.",
    "The licence fee falls due in June again.",
    "A tribunal hears appeals against penalties.",
    "Client money is held on trust.",
]


def test_the_least_sure_come_first() -> None:
    assert choose(TEXTS[1:], [0.9, 0.5, 0.7], 2) == [1, 2]


def test_a_pair_like_one_that_was_chosen_waits() -> None:
    assert choose(TEXTS, [0.50, 0.51, 0.7, 0.2], 3) == [0, 2, 3]


def test_no_more_than_the_budget_and_no_more_than_there_are() -> None:
    assert len(choose(TEXTS, [0.5] * 4, 9)) == 4
    assert choose([], [], 3) == []
    assert sorted(choose(["", ""], [0.4, 0.5], 2)) == [0, 1]
