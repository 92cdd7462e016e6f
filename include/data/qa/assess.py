"""Judges pairs: coherence, consensus of the validators, facts, confidence, and what is wrong in words.

| figure | what it is | compared with |
|---|---|---|
| coherence | probability that question, answer and passage belong together, from words and form | `coherence` |
| consensus | share of the validators (words, facts, form) that find the pair sound | `consensus` |
| facts | share of the answer's numbers and quotations that the passage bears out | `facts` |
| confidence | probability that the pair is sound, from all evidence | `confidence` |

A pair that misses nothing is sound. One whose confidence is at most 1 - `confidence` is bad. The rest are uncertain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from include.data.qa.corruptions import KINDS, corrupt
from include.data.qa.evidence import GROUPS, Corpus, Matrix, measure
from include.data.qa.facts import Claim, accuracy, claims
from include.data.qa.issues import told
from include.data.qa.model import Learnt, Training, Vector, learn, shifted
from include.data.qa.pairs import Pair
from include.data.records import ClassifierScore, PairReport
from include.spec.pairs import QaSpec

COPIES = 2  # corrupted copies of each pair of the training
COHERENCE, CONFIDENCE = "coherence", "confidence"
_SHOWN = 3


class Verdict(str, Enum):
    """What becomes of a pair."""

    SOUND = "sound"
    UNCERTAIN = "uncertain"
    BAD = "bad"


@dataclass(frozen=True)
class Judgement:
    """One pair, judged; see the module."""

    key: str
    verdict: Verdict
    coherence: float
    consensus: float
    facts: float
    confidence: float
    issues: tuple[str, ...]

    def __str__(self) -> str:
        return told(self.confidence, self.coherence, self.consensus, self.facts, self.issues)


class Assessor:
    """Learns from `taught` pairs, which count as sound, and judges pairs.

    A pair that it learnt from is judged by those of its models that have seen neither it nor a copy of it.
    """

    def __init__(self, taught: Sequence[Pair], passages: Mapping[str, str], spec: QaSpec) -> None:
        self._spec, self._corpus = spec, Corpus(passages)
        copies = corrupt(taught, spec.seed, COPIES)
        known = [*taught, *(copy.pair for copy in copies)]
        kinds = [""] * len(taught) + [copy.kind for copy in copies]
        sound = np.array([int(not kind) for kind in kinds])
        training = Training(sound, kinds, [pair.key for pair in known])
        self._learnt = learn(_sets(measure(known, self._corpus)), training, spec.seed)
        held_out = {name: shifted(models.held_out, spec.expected_bad) for name, models in self._learnt.items()}
        judged = _judge(known, held_out, spec)
        self._taught = dict(zip(taught, judged, strict=False))
        passed = np.array([item.verdict is Verdict.SOUND for item in judged])
        self._report = _report(np.array(kinds), passed, self._learnt)

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """Every pair's judgement, in order."""
        fresh = [pair for pair in pairs if pair not in self._taught]
        scored = dict(zip(fresh, _judge(fresh, self._scores(fresh), self._spec), strict=True)) if fresh else {}
        return [self._taught.get(pair) or scored[pair] for pair in pairs]

    def report(self) -> PairReport:
        """How well it tells sound from corrupted; the counts of judged pairs are for the caller to fill in."""
        return self._report

    def _scores(self, pairs: Sequence[Pair]) -> dict[str, Vector]:
        features, expected = _sets(measure(pairs, self._corpus)), self._spec.expected_bad
        return {name: shifted(models.probability(features[name]), expected) for name, models in self._learnt.items()}


def _sets(groups: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """The features of every model: the validators' own, and those of the two classifiers."""
    return {
        **groups,
        COHERENCE: np.hstack([groups["words"], groups["form"]]),
        CONFIDENCE: np.hstack([groups[name] for name in GROUPS]),
    }


def _judge(pairs: Sequence[Pair], scores: Mapping[str, Vector], spec: QaSpec) -> list[Judgement]:
    return [
        _one(pair, {name: float(values[number]) for name, values in scores.items()}, spec)
        for number, pair in enumerate(pairs)
    ]


def _one(pair: Pair, scores: Mapping[str, float], spec: QaSpec) -> Judgement:
    against = [name for name in GROUPS if scores[name] < 0.5]
    consensus = 1 - len(against) / len(GROUPS)
    found = claims(pair)
    facts = accuracy(found)
    issues = _issues(scores, against, consensus, found, facts, spec)
    verdict = Verdict.UNCERTAIN if issues else Verdict.SOUND
    if scores[CONFIDENCE] <= 1 - spec.confidence:
        verdict = Verdict.BAD
    return Judgement(pair.key, verdict, scores[COHERENCE], consensus, facts, scores[CONFIDENCE], tuple(issues))


def _issues(
    scores: Mapping[str, float],
    against: Sequence[str],
    consensus: float,
    found: Sequence[Claim],
    facts: float,
    spec: QaSpec,
) -> list[str]:
    issues = []
    if scores[COHERENCE] <= spec.coherence:
        issues.append("question, answer and passage do not seem to belong together")
    if consensus < spec.consensus:
        issues.append(f"validators against it: {', '.join(against)}")
    if facts < spec.facts:
        missing = [claim.text for claim in found if not claim.supported]
        issues.append(f"not in passage or question: {', '.join(missing[:_SHOWN])}")
    if scores[CONFIDENCE] < spec.confidence:
        issues.append("low confidence")
    return issues


def _report(kinds: NDArray[np.str_], passed: NDArray[np.bool_], learnt: Mapping[str, Learnt]) -> PairReport:
    made = [kind for kind in KINDS if (kinds == kind).any()]
    return PairReport(
        trained_on=int((kinds == "").sum()),
        classifiers={
            name: ClassifierScore(auc=round(models.auc, 4), low=round(models.low, 4), high=round(models.high, 4))
            for name, models in learnt.items()
        },
        sound_passed=round(float(passed[kinds == ""].mean()), 4),
        caught={kind: round(1 - float(passed[kinds == kind].mean()), 4) for kind in made},
        corrupted={kind: int((kinds == kind).sum()) for kind in made},
    )
