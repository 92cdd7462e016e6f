"""What a text must hold to have personal data in it, at least: most texts have none, and need not be looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from include.data.pii.finder import MIN_PHONE_DIGITS, Kind


def _digits(count: int) -> Callable[[str], bool]:
    return lambda text: len(re.findall(r"\d", text)) >= count


def _numbered_word(text: str) -> bool:
    return any(any(character.isdigit() for character in run) for run in re.findall(r"[A-Za-z0-9]{11,}", text))


def _pattern(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.search(text) is not None


_MUST_HOLD: Mapping[Kind, Callable[[str], bool]] = {
    Kind.EMAIL: _pattern("@"),
    Kind.PHONE: _digits(MIN_PHONE_DIGITS),
    Kind.CARD: _pattern(r"\d(?:[ -]?\d){11}"),
    Kind.IBAN: _pattern(r"[A-Za-z]{2}\d{2}[ -]?[A-Za-z0-9]{4}"),
    Kind.IP: _pattern(r":|\d\.\d"),
    Kind.MAC: _pattern(r"[0-9A-Fa-f]{2}[:.-][0-9A-Fa-f]{2}"),
    Kind.SSN: _pattern(r"\d{3}[- ]\d{2}[- ]\d{4}"),
    Kind.NINO: _pattern(r"[A-Za-z]{2}\s*\d{2}\s*\d{2}\s*\d{2}"),
    Kind.VIN: _numbered_word,
}


def could_hold(text: str, kinds: Iterable[Kind]) -> bool:
    """False where the text cannot hold personal data of these kinds; most of them need a digit."""
    plain = not any(character.isdigit() for character in text)
    for kind in kinds:
        needs = _MUST_HOLD.get(kind)
        if needs is None:
            return True
        if plain and kind not in (Kind.EMAIL, Kind.IP, Kind.MAC):
            continue
        if needs(text):
            return True
    return False
