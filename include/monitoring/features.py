"""What is compared between the reference and live traffic: a few numbers per request, whatever the family. Pure.

Of every text input: how long it is, and how much of it are words that the model never saw in training. Of every number
among inputs and answers (a score, a confidence): the number itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

_WORD = re.compile(r"[^\W\d_]+")


def words(text: str) -> list[str]:
    """Lower-case words of `text`; digits and signs are none."""
    return _WORD.findall(text.lower())


def vocabulary(inputs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """All words in the text inputs of the requests that a model was trained on."""
    known: set[str] = set()
    for request in inputs:
        for value in request.values():
            if isinstance(value, str):
                known.update(words(value))
    return frozenset(known)


def features(inputs: Mapping[str, Any], outputs: Mapping[str, Any], known: frozenset[str]) -> dict[str, float]:
    """Column -> value of one request and its answer; what is missing or not finite is left out."""
    found: dict[str, float] = {}
    for name, value in inputs.items():
        if isinstance(value, str):
            said = words(value)
            found[f"{name}_characters"] = float(len(value))
            found[f"{name}_words"] = float(len(said))
            found[f"{name}_unknown_share"] = sum(word not in known for word in said) / len(said) if said else 0.0
    for name, value in [*inputs.items(), *outputs.items()]:
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[name] = float(value)
    return found
