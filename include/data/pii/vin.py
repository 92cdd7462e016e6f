"""Vehicle identification numbers: 17 characters of which one is a check digit (49 CFR 565.15; ISO 3779). Pure."""

from __future__ import annotations

import re

VIN = re.compile(r"(?<![A-Z0-9])[A-HJ-NPR-Z0-9]{17}(?![A-Z0-9])", re.IGNORECASE)

_VALUES = {
    **{str(digit): digit for digit in range(10)},
    **dict(zip("ABCDEFGH", range(1, 9), strict=True)),
    **dict(zip("JKLMN", range(1, 6), strict=True)),
    **{"P": 7, "R": 9},
    **dict(zip("STUVWXYZ", range(2, 10), strict=True)),
}
_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_CHECK = 8  # the place of the check digit, from 0


def valid_vin(text: str) -> bool:
    """Whether the check digit is right. Vehicles made for other markets than North America need not have one."""
    characters = text.upper()
    if not VIN.fullmatch(characters) or len(set(characters)) == 1:
        return False
    total = sum(_VALUES[character] * weight for character, weight in zip(characters, _WEIGHTS, strict=True))
    return characters[_CHECK] == "0123456789X"[total % 11]
