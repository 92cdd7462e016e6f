"""Which uncertain pairs people are asked about: those that teach most, and no two alike.

Uncertainty sampling with diversity. A pair is worth the more the nearer its confidence is to one half (margin), and the
less the more it resembles a pair that was chosen before it; the budget is filled one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from include.data.qa.text import stems


def choose(texts: Sequence[str], confidences: Sequence[float], budget: int) -> list[int]:
    """Positions of the chosen pairs, the first chosen first.

    Args:
        texts: Question and answer of every pair.
        confidences: Probability of every pair to be sound.
    """
    if not texts:
        return []
    try:
        vectors = TfidfVectorizer(analyzer=stems).fit_transform(texts)
        alike = (vectors @ vectors.T).toarray()
    except ValueError:  # not a word in any of them: then none resembles another
        alike = np.eye(len(texts))
    doubt = 1 - 2 * np.abs(np.asarray(confidences) - 0.5)
    chosen: list[int] = []
    nearest = np.zeros(len(texts))
    while len(chosen) < min(budget, len(texts)):
        worth = doubt * (1 - nearest)
        worth[chosen] = -np.inf
        best = int(np.argmax(worth))
        chosen.append(best)
        nearest = np.maximum(nearest, alike[best])
    return chosen
