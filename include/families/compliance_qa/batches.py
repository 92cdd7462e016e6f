"""Which questions and passages go into which training batch: a pure function of seed, epoch, batch and rank.

Nothing here keeps a state, so that a run that is resumed in the middle of an epoch sees exactly the batches that it
would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WINDOW = 8  # batches among which questions of like length are brought together
_ORDER, _NEGATIVES = 1, 2  # streams of random numbers

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Rows of one batch on one rank.

    Attributes:
        questions: Question numbers, shape (n,).
        targets: The passage that each question should find, shape (n,).
        passages: Passages to embed, each once, shape (p,); empty where passages are fixed.
    """

    questions: Numbers
    targets: Numbers
    passages: Numbers


@dataclass(frozen=True)
class BatchPlan:
    """Batches over all (question, relevant passage) pairs.

    Attributes:
        gold: Relevant passage numbers per question.
        lengths: Tokens per question.
        size: Pairs per batch over all ranks.
        accumulate: Batches of one optimizer step. Half the size and twice as many are the same pairs per step.
        world: Ranks.
        seed: Seed of order and negatives.
        mined: Hard negatives per question, best first, shape (questions, pool); None where passages are fixed.
        negatives: Hard negatives drawn per question.
        corpus: Number of passages.
    """

    gold: Sequence[Sequence[int]]
    lengths: Sequence[int]
    size: int
    world: int
    seed: int
    corpus: int
    accumulate: int = 1
    mined: Numbers | None = None
    negatives: int = 0

    @property
    def pairs(self) -> Numbers:
        """All (question, passage) pairs, shape (pairs, 2)."""
        return np.array(
            [(question, passage) for question, gold in enumerate(self.gold) for passage in gold], dtype=np.int64
        )

    def __len__(self) -> int:
        """Batches per epoch: those of an incomplete last step are left out, unless it is the only one."""
        return self._steps * self.accumulate

    @property
    def _steps(self) -> int:
        return max(1, sum(len(gold) for gold in self.gold) // self._step)

    @property
    def _step(self) -> int:
        """Pairs per optimizer step: what all ranks together can share evenly, and no more than there are."""
        size = min(self.size, sum(len(gold) for gold in self.gold) // self.accumulate)
        return self.accumulate * max(self.world, size - size % self.world)

    def epoch(self, epoch: int) -> list[Numbers]:
        """The pairs of each batch of the epoch, each of shape (batch, 2), over all ranks."""
        random = np.random.default_rng([self.seed, _ORDER, epoch])
        pairs, size = self.pairs, self._step
        order = random.permutation(len(pairs))
        order = np.resize(order, self._steps * size)  # cuts the incomplete step; repeats where there are too few pairs
        lengths = np.asarray(self.lengths)[pairs[order, 0]]
        window = size * _WINDOW
        sorted_ = [
            part[np.argsort(lengths[start : start + window], kind="stable")] for start, part in _parts(order, window)
        ]
        steps = np.concatenate(sorted_).reshape(self._steps, size)
        return [
            pairs[batch]
            for number in random.permutation(self._steps)
            for batch in np.split(steps[number], self.accumulate)
        ]

    def rank_batch(self, pairs: Numbers, epoch: int, index: int, rank: int) -> Batch:
        """What `rank` does of the batch: every `world`-th pair, so that ranks have questions of like length."""
        own = pairs[rank :: self.world]
        return Batch(own[:, 0], own[:, 1], self._passages(own, epoch, index, rank))

    def _passages(self, own: Numbers, epoch: int, index: int, rank: int) -> Numbers:
        if self.mined is None:
            return np.empty(0, dtype=np.int64)
        random = np.random.default_rng([self.seed, _NEGATIVES, epoch, index, rank])
        drawn = [random.choice(self.mined[question], self.negatives, replace=False) for question in own[:, 0]]
        chosen = list(dict.fromkeys([*own[:, 1].tolist(), *np.array(drawn, dtype=np.int64).ravel().tolist()]))
        wanted = min(
            self.corpus, len(own) * (1 + self.negatives)
        )  # the same on every rank, so that they can be gathered
        known = set(chosen)
        while len(chosen) < wanted:
            extra = int(random.integers(self.corpus))
            if extra not in known:
                known.add(extra)
                chosen.append(extra)
        return np.array(chosen, dtype=np.int64)


def padded_gold(gold: Sequence[Sequence[int]], questions: Numbers) -> Numbers:
    """Relevant passages per question, filled up with -1, shape (n, most)."""
    rows = [gold[question] for question in questions]
    out = np.full((len(rows), max(len(row) for row in rows)), -1, dtype=np.int64)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


def _parts(order: Numbers, size: int) -> list[tuple[int, Numbers]]:
    return [(start, order[start : start + size]) for start in range(0, len(order), size)]
