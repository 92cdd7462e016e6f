"""How question and answer pairs are validated, and how people settle what that leaves open."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from include.spec.base import Fraction, Name, SpecModel


class ReviewSpec(SpecModel):
    """How people settle what the validation of pairs leaves open.

    Attributes:
        budget: Pairs that go to people per review: those that teach most, and no two alike.
        reviewers: Answers that every pair needs.
        hours: A pair that has too few answers by then stays in quarantine.
        agreement: Share of the answers that must be the same for a pair to be released, and of agreeing pairs of
            answers over the whole review below which its outcome is doubted.
    """

    budget: Annotated[int, Field(ge=1, le=200)] = 12
    reviewers: Annotated[int, Field(ge=1, le=9)] = 3
    hours: Annotated[float, Field(gt=0)] = 72.0
    agreement: Fraction = 0.90


class QaSpec(SpecModel):
    """Validation of question and answer pairs; the figures are explained in `include.data.qa.assess`.

    Attributes:
        table: Table of the pairs; `question`, `answer` and `citations` are its columns.
        passages: Table that citations are keys of; its columns `texts` are read together, and `group` says which
            passages are about the same thing.
        expected_bad: Share of pairs that are bad in an ordinary delivery; probabilities are calibrated for it.
        min_pairs: With fewer pairs to learn from, none is judged.
    """

    table: Name = "questions"
    question: Name = "question"
    answer: Name = "answer"
    citations: Name = "citations"
    passages: Name = "passages"
    texts: tuple[Name, ...] = ("text",)
    group: Name = "document_id"
    coherence: Fraction = 0.80
    consensus: Fraction = 0.66
    facts: Fraction = 0.95
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.85
    expected_bad: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.02
    min_pairs: Annotated[int, Field(ge=50)] = 150
    seed: int = 0
    review: ReviewSpec = ReviewSpec()
