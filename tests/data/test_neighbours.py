"""Near-duplicates are found as an exact comparison of all pairs finds them, and cost little."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from include.data import neighbours
from include.data.neighbours import near_duplicates, normalised
from include.errors import DataError
from tests.conftest import SHARED_DATA

OBLIQA = SHARED_DATA / "compliance_qa" / "obliqa"


def exact(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """All pairs by scikit-learn's `char_wb` pieces; of texts that are the same, those with the first."""
    whole = [normalised(text) for text in texts]
    pieces = CountVectorizer(analyzer="char_wb", ngram_range=(4, 4), binary=True, lowercase=False).build_analyzer()
    sets = [frozenset(pieces(text)) if text else frozenset() for text in whole]
    first: dict[str, int] = {}
    for number, text in enumerate(whole):
        first.setdefault(text, number)
    found = {}
    for a, b in itertools.combinations(range(len(texts)), 2):
        if not sets[a] or not sets[b] or first[whole[a]] != a or (first[whole[b]] != b and whole[a] != whole[b]):
            continue
        similarity = len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        if similarity >= threshold:
            found[(a, b)] = similarity
    return found


def as_dict(pairs: neighbours.Pairs) -> dict[tuple[int, int], float]:
    ends = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return dict(zip(ends, pairs.similarity.tolist(), strict=True))


def reworded(random_: random.Random, text: str) -> str:
    words = text.split()
    words[random_.randrange(len(words))] = "whichever"
    return " ".join(words)


def sentences(n: int, seed: int = 1) -> list[str]:
    random_ = random.Random(seed)
    vocabulary = ["".join(random_.choices("abcdefghijklmnop", k=random_.randint(1, 9))) for _ in range(900)]
    return [" ".join(random_.choices(vocabulary, k=random_.randint(6, 20))) for _ in range(n)]


def test_they_are_those_of_an_exact_comparison() -> None:
    random_ = random.Random(2)
    texts = sentences(120)
    texts += [reworded(random_, text) for text in texts[:60]] + [text.upper() + "?!" for text in texts[60:80]]
    found, wanted = as_dict(near_duplicates(texts, 0.55)), exact(texts, 0.55)
    assert len(wanted) > 70
    assert found == pytest.approx(wanted)


def test_the_same_text_is_the_same_however_it_is_written() -> None:
    pairs = near_duplicates(["Who pays the FEE?", "who  pays the fee", "Ｗho pays: the fee!", "Who pays?"], 1.0)
    assert as_dict(pairs) == {(0, 1): 1.0, (0, 2): 1.0}


def test_numbers_of_rules_tell_questions_apart() -> None:
    pairs = near_duplicates(["What does Rule 4 say?", "What does Rule 7 say?"], 0.999)
    assert not len(pairs)


def test_a_pair_does_not_depend_on_the_other_texts() -> None:
    texts = sentences(40)
    pair = [texts[0], reworded(random.Random(1), texts[0])]
    assert list(as_dict(near_duplicates(pair, 0.5)).values()) == [
        as_dict(near_duplicates([*pair, *texts[1:]], 0.5))[(0, 1)]
    ]


def test_nothing_to_compare() -> None:
    for texts in ([], ["one"], ["", ""], ["?", "!"], ["", "a b c"]):
        assert not len(near_duplicates(texts, 0.5))


def test_texts_of_one_mould_are_refused_and_not_compared_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MAX_CANDIDATES", 1_000)
    texts = [f"the policy of the company number {number} says what about cookies" for number in range(400)]
    with pytest.raises(DataError, match="of one mould"):
        near_duplicates(texts, 0.5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=8), st.sampled_from([0.5, 0.8, 1.0]))
def test_any_text_can_be_compared(texts: list[str], threshold: float) -> None:
    found, wanted = as_dict(near_duplicates(texts, threshold)), exact(texts, threshold)
    assert found == pytest.approx(wanted)


def test_ten_thousand_questions_take_seconds() -> None:
    pairs = near_duplicates(sentences(10_000), 0.55)
    assert pairs.compared < 2_000_000


@pytest.mark.skipif(not OBLIQA.is_dir(), reason="the shared ObliQA set is not here")
def test_obliqa_has_reworded_questions() -> None:
    questions = [
        row["Question"] for path in sorted(OBLIQA.glob("ObliQA_*.json")) for row in json.loads(path.read_text())
    ]
    assert len(near_duplicates(questions, 0.55)) == 25
