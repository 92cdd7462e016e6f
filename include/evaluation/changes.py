"""Requests changed as the spec's `robustness` says. Pure: what changes is drawn from seed, change and example alone."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from include.data.prepare.slips import misspelt
from include.errors import UserError
from include.spec.probing import Case, Change, Empty, Missing, Misspelling, OutOfScope, Rewording, Truncation

Request = dict[str, Any]
_EMPTY_TEXTS = ("", " ", "\n\t ")


def changed(change: Change, request: Mapping[str, Any], kinds: Mapping[str, str], example: str) -> Request:
    """The request with `change` made; it may be equal where there was nothing to change.

    Args:
        kinds: Input -> datatype of the Open Inference Protocol, as the model takes them.
        example: Id of the example, which the change is drawn from.

    Raises:
        UserError: The spec names an input that the model does not take.
    """
    if unknown := sorted(set(change.fields) - set(kinds)):
        raise UserError(
            f"the model takes no input {unknown[0]!r}",
            where=f"evaluation.robustness.{change.name}.fields",
            hint=f"it takes: {', '.join(kinds)}",
        )
    rng = random.Random(f"{change.change}\0{change.seed}\0{example}")
    match change:
        case Missing():
            left_out = rng.choice(_fields(change, list(kinds)))
            return {name: value for name, value in request.items() if name != left_out}
        case Empty():
            name = rng.choice(_fields(change, list(kinds)))
            return {**request, name: rng.choice(_EMPTY_TEXTS) if kinds[name] == "BYTES" else None}
        case OutOfScope():
            return dict(change.requests[rng.randrange(len(change.requests))])
    texts = _fields(change, [name for name, kind in kinds.items() if kind == "BYTES"])
    return {
        name: _changed_text(change, rng, value) if name in texts and isinstance(value, str) else value
        for name, value in request.items()
    }


def _fields(change: Change, default: Sequence[str]) -> Sequence[str]:
    return change.fields or default


def _changed_text(change: Change, rng: random.Random, text: str) -> str:
    match change:
        case Misspelling():
            return misspelt(rng, text, change.rate)
        case Case():
            return _cased(change.case, rng, text)
        case Rewording():
            return _reworded(change, rng, text)
        case Truncation():
            words = text.split()
            return " ".join(words[: max(1, round(len(words) * change.keep))])
    raise AssertionError(f"{change.change} changes no text")


def _cased(case: str, rng: random.Random, text: str) -> str:
    if case == "mixed":
        return "".join(letter.upper() if rng.random() < 0.5 else letter.lower() for letter in text)
    return text.upper() if case == "upper" else text.lower()


def _reworded(change: Rewording, rng: random.Random, text: str) -> str:
    if change.phrases:
        others = {phrase.lower(): words for phrase, words in change.phrases.items()}
        longest_first = sorted(others, key=lambda phrase: (-len(phrase), phrase))
        pattern = r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)"
        text = re.sub(
            pattern, lambda found: _like(found[0], rng.choice(others[found[0].lower()])), text, flags=re.IGNORECASE
        )
    return rng.choice(change.templates).replace("{text}", text.strip()) if change.templates else text


def _like(before: str, after: str) -> str:
    """`after` with a capital where `before` begins with one."""
    return after[:1].upper() + after[1:] if before[:1].isupper() else after
