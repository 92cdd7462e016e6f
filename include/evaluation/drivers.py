"""What drives the answers: which inputs matter, and what the answers say of themselves.

The importance of an input is what the quality loses when the input's values are shuffled among the examples, so that
they are as likely as before and say nothing any more (L. Breiman, "Random Forests", Machine Learning 45 (2001), 5-32,
section 10). Inputs that tell the same are each found unimportant: the other one stands in.

An answer record may hold `why`: `parts` (what its score is the sum of, by name) and `terms` (the words that made the
difference, with their share of the score).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from include.evaluation.asking import ask
from include.evaluation.intervals import mean_interval, paired_interval
from include.evaluation.robustness import Asked, quality_of

WHY = "why"
_TERMS, _EXAMPLES = 20, 5


def importance(asked: Asked, seed: int) -> dict[str, Any]:
    """Input -> metric -> what shuffling the input costs, an interval record (above 0: the input matters).

    Empty where the model takes a single input: shuffled questions are other questions.
    """
    names = list(asked.runtime.inputs)
    if len(names) < 2 or len(asked.examples) < 2:
        return {}
    found: dict[str, Any] = {}
    for number, name in enumerate(names):
        order = np.random.default_rng([seed, number]).permutation(len(asked.examples))
        requests = [
            {**example.request, name: asked.examples[other].request[name]}
            for example, other in zip(asked.examples, order, strict=True)
        ]
        shuffled = quality_of(asked, ask(asked.runtime, requests))
        found[name] = {}
        for metric, values in shuffled.items():
            before = asked.quality[metric]
            worse, better = (values, before) if metric in asked.lower_is_better else (before, values)
            found[name][metric] = paired_interval(worse, better, **asked.bootstrap).to_json()
    return found


def told_by_answers(asked: Asked) -> dict[str, Any]:
    """The answers' own `why`, over all examples: mean of every part, the weightiest terms, and a few examples."""
    whys = [
        (example.id, answer.record[WHY])
        for example, answer in zip(asked.examples, asked.answers, strict=True)
        if isinstance(answer.record.get(WHY), Mapping)
    ]
    if not whys:
        return {}
    parts: defaultdict[str, list[float]] = defaultdict(list)
    weights: Counter[str] = Counter()
    for _, why in whys:
        for name, value in why.get("parts", {}).items():
            parts[name].append(float(value))
        for term, value in why.get("terms", {}).items():
            weights[term] += float(value)  # type: ignore[assignment]  # a Counter adds up any number
    return {
        "n": len(whys),
        "parts": {name: mean_interval(values, **asked.bootstrap).to_json() for name, values in parts.items()},
        "terms": {term: round(weight / len(whys), 6) for term, weight in weights.most_common(_TERMS)},
        "examples": [{"id": identity, WHY: why} for identity, why in whys[:_EXAMPLES]],
    }
