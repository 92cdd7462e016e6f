"""What the validators read out of texts, and the claims that can be looked up."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from include.data.qa.facts import accuracy, claims
from include.data.qa.pairs import Pair
from include.data.qa.text import cardinals, negations, numbers, polarities, quotes, sentences

PAIR = Pair(
    key="q-1",
    question="We owe 400 crowns. When is it due, and what does it cost us?",
    answer="Within 15 days, with a charge of 20 crowns.",
    evidence="A levy is paid within 15 days. Who is late is charged 5 per cent of it. It is “payable in full” at once.",
    passage="FEE:1",
    group="FEE",
)


# What the validators see of pairs with many words, to the last bit.
_MEASURE = """
import hashlib
from include.data.qa.evidence import Corpus, measure
from include.data.qa.pairs import Pair
words = [f"{a}{b}ing" for a in "bdfgklmnprst" for b in ("ar", "en", "ill", "os", "um")]
passages = {f"P:{n}": " ".join(words[n::7] + words[:: n + 2]) for n in range(9)}
pairs = [Pair(f"q-{n}", text, " ".join(words[n::5]), text, f"P:{n}", "P") for n, text in enumerate(passages.values())]
found = measure(pairs, Corpus(passages))
print(hashlib.sha256(b"".join(found[name].tobytes() for name in sorted(found))).hexdigest())
"""


def test_evidence_is_the_same_in_every_process() -> None:
    """Python orders sets by a seed of the process; a sum in that order differs in its last bit, and a tree by it."""
    run = [sys.executable, "-c", _MEASURE]
    found = {
        subprocess.run(
            run, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("15,000 crowns and 2.5 per cent", [15000.0, 2.5]),
        ("seven of twenty-one", [7.0, 20.0, 1.0]),
        ("by 17:00", [17.0]),
        ("1.2 million crowns", [1_200_000.0]),
        ("rule COB-2.2", []),
        ("", []),
    ],
)
def test_numbers(text: str, found: list[float]) -> None:
    assert numbers(text) == found


def test_what_counts_and_what_only_orders_or_dates() -> None:
    assert cardinals("One of the first three, by 31 December, once, and half of it") == [3.0]


def test_negations_and_what_they_stand_before() -> None:
    assert negations("It must not, and can't, be refused without cause") == 4
    assert polarities("It must not hold money. It holds assets.")["hold"] == {True, False}
    assert polarities("It must not hold money.")["money"] == {True}


def test_sentences_and_quotes() -> None:
    assert sentences("One. Two; three\nfour") == ["One.", "Two;", "three", "four"]
    assert quotes("He said “payable in full” twice") == ["payable in full"]


class TestClaims:
    def test_a_number_may_be_given_or_follow_from_what_is_given(self) -> None:
        assert [(claim.text, claim.supported) for claim in claims(PAIR)] == [
            ("the number 15", True),
            ("the number 20", True),  # 5 per cent of 400
        ]

    @pytest.mark.parametrize(
        ("answer", "missing"),
        [
            ("Within 17 days.", "the number 17"),
            ("Within 15 days, being “due on demand”.", "the quotation 'due on demand'"),
        ],
    )
    def test_what_is_not_there_is_named(self, answer: str, missing: str) -> None:
        found = claims(replace(PAIR, answer=answer))
        assert [claim.text for claim in found if not claim.supported] == [missing]
        assert accuracy(found) < 0.95

    def test_an_answer_that_claims_nothing_is_accurate(self) -> None:
        assert accuracy(claims(replace(PAIR, answer="Yes, it is payable in full."))) == 1.0
