"""Bad copies are bad in the way that their kind says, and the same ones every time."""

from __future__ import annotations

import pytest

from include.data.qa.corruptions import KINDS, corrupt
from include.data.qa.pairs import Pair
from include.data.qa.text import numbers


def make(number: int, answer: str, group: str) -> Pair:
    return Pair(f"q-{number}", f"What of {number}?", answer, f"Evidence {number}.", f"{group}:{number}", group)


PAIRS = [
    make(1, "Yes. A licensee must file within 15 days of the change of its name.", "AA"),
    make(2, "The board, and nobody else, may decide upon the matter in question.", "AA"),
    make(3, "No. It cannot be paid back.", "AA"),
    make(4, "Three quarters of 1,200 crowns.", "BB"),
    make(5, "Never.", "BB"),
]
COPIES = corrupt(PAIRS, seed=1, per_pair=len(KINDS))


def of(kind: str) -> list[tuple[Pair, Pair]]:
    by_key = {pair.key: pair for pair in PAIRS}
    return [(by_key[copy.pair.key], copy.pair) for copy in COPIES if copy.kind == kind]


def test_every_kind_is_made_and_no_copy_is_the_original() -> None:
    assert {copy.kind for copy in COPIES} == set(KINDS)
    assert not [copy for copy in COPIES if copy.pair in PAIRS]


def test_the_same_seed_makes_the_same_copies_and_another_one_others() -> None:
    assert corrupt(PAIRS, 1, 2) == corrupt(PAIRS, 1, 2) != corrupt(PAIRS, 2, 2)


@pytest.mark.parametrize("most", [1, 2])
def test_no_pair_has_more_copies_than_asked_for(most: int) -> None:
    made = [copy.pair.key for copy in corrupt(PAIRS, 1, most)]
    assert max(made.count(pair.key) for pair in PAIRS) == most


def test_a_number_is_another_one_and_nothing_else_changes() -> None:
    for original, copy in of("number"):
        assert sorted(numbers(copy.answer)) != sorted(numbers(original.answer))
        assert copy.question == original.question and copy.evidence == original.evidence
    assert {original.key for original, _ in of("number")} == {"q-1", "q-4"}


def test_a_negation_says_the_opposite() -> None:
    assert {copy.key: copy.answer.split(".")[0] for _, copy in of("negation")} == {
        "q-1": "No", "q-2": "The board, and nobody else, may not decide upon the matter in question", "q-3": "Yes",
    }  # fmt: skip


def test_answers_and_passages_come_from_elsewhere_in_the_right_distance() -> None:
    answers = {pair.answer: pair for pair in PAIRS}
    for original, copy in of("near_answer"):
        assert answers[copy.answer].group == original.group and answers[copy.answer].passage != original.passage
    for original, copy in of("wrong_passage"):
        assert (copy.answer, copy.evidence != original.evidence) == (original.answer, True)


def test_a_truncated_answer_is_a_beginning() -> None:
    for original, copy in of("truncated"):
        assert original.answer.startswith(copy.answer) and len(copy.answer) < 0.8 * len(original.answer)
