"""Agreement of reviewers: on a pair, and over all of them."""

from __future__ import annotations

import pytest

from include.data.qa.agreement import Answer, fleiss_kappa, observed_agreement, settled

R, W, U = Answer.RIGHT, Answer.WRONG, Answer.UNSURE


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([R, R, R], R),
        ([W, W, W], W),
        ([R, R, W], None),  # two of three are less than 90%
        ([R, R], None),  # one answer is missing
        ([U, U, U], None),
        ([R] * 9 + [W], R),
        ([], None),
    ],
)
def test_a_pair_is_settled_by_enough_people_of_one_mind(answers: list[Answer], found: Answer | None) -> None:
    assert settled(answers, needed=3, share=0.9) is found


def test_observed_agreement_counts_couples_of_answers() -> None:
    assert observed_agreement([[R, R, R], [R, R, W]]) == pytest.approx(4 / 6)
    assert observed_agreement([[R], []]) is None


def test_fleiss_kappa_of_an_example_by_hand() -> None:
    """Ten pairs, two raters, who agree on 8; 10 of 20 answers are `right`: (0.8 - 0.5) / (1 - 0.5) = 0.6."""
    rows = [[R, R]] * 4 + [[W, W]] * 4 + [[R, W]] * 2
    assert fleiss_kappa(rows) == pytest.approx(0.6)


def test_kappa_is_one_for_agreement_about_nought_for_chance_and_undefined_for_one_answer_only() -> None:
    assert fleiss_kappa([[R, R, R], [W, W, W]]) == pytest.approx(1.0)
    assert fleiss_kappa([[R, R], [R, W], [W, R], [W, W]]) == pytest.approx(0.0)
    assert fleiss_kappa([[R, R], [R, R]]) is None
    assert fleiss_kappa([[R]]) is None


def test_kappa_leaves_out_pairs_with_another_number_of_answers() -> None:
    assert fleiss_kappa([[R, R], [W, W], [R, W, U], [R]]) == pytest.approx(1.0)
