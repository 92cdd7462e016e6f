"""Faults of text that take more than a pattern: personal data, and text that was decoded wrongly. Pure.

What looks like a number of a bank account or a card counts only if its check digits are right, and a short telephone
number only behind a word that announces one: rule books are full of numbers.
"""

from __future__ import annotations

import re

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
_LONG_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}(?:[ .()-]{0,2}\d){7,12}|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?!\w)"
)
#: A number without an area code, its group, behind a word that announces one.
SHORT_PHONE = re.compile(
    r"\b(?:call|calls|called|phone|telephone|tel|mobile|cell|ring|text|reach|reached|whatsapp|contact|number|fax)\b"
    r"\.?[^.?!\d]{0,40}?(?<!\w)(\d{3,4}[ -]\d{4})(?![\w-])",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")

#: What Windows-1252 shows for the bytes 0x80 to 0x9f.
_CP1252 = bytes(byte for byte in range(0x80, 0xA0) if byte not in b"\x81\x8d\x8f\x90\x9d").decode("cp1252")
_TAIL = rf"[\u0080-\u00bf{_CP1252}]"
#: UTF-8 that was read as Windows-1252 or Latin-1, the replacement character, and control characters.
_WRONG_ENCODING = re.compile(
    rf"\ufffd|[\u00c2\u00c3]{_TAIL}|\u00e2[\u0080-\u009f{_CP1252}]{_TAIL}|[\x00-\x08\x0b\x0c\x0e-\x1f]"
)


def personal_data(text: str | None) -> str | None:
    """What kind of personal data the text holds (`email`, `phone`, `iban`, `card`), or None."""
    if not text:
        return None
    if "@" in text and _EMAIL.search(text):
        return "email"
    if not any(character.isdigit() for character in text):
        return None
    if any(_valid_iban(match[0].replace(" ", "")) for match in _IBAN.finditer(text)):
        return "iban"
    if any(_valid_card(re.sub(r"\D", "", match[0])) for match in _CARD.finditer(text)):
        return "card"
    return "phone" if _LONG_PHONE.search(text) or SHORT_PHONE.search(text) else None


def mask_personal_data(text: str) -> str:
    """`text` with a mark such as `[email]` in the place of everything that `personal_data` finds."""
    while personal_data(text):  # what is masked can bring a second number closer to the word that announces it
        text = _EMAIL.sub("[email]", text)
        text = _IBAN.sub(lambda match: "[iban]" if _valid_iban(match[0].replace(" ", "")) else match[0], text)
        text = _CARD.sub(lambda match: "[card]" if _valid_card(re.sub(r"\D", "", match[0])) else match[0], text)
        text = _LONG_PHONE.sub("[phone]", text)
        text = SHORT_PHONE.sub(lambda match: match[0].removesuffix(match[1]) + "[phone]", text)
    return text


def wrong_encoding(text: str | None) -> str | None:
    """The characters that show that the text was decoded wrongly, or None."""
    match = _WRONG_ENCODING.search(text or "")
    return ascii(match[0]) if match else None


def _valid_iban(text: str) -> bool:
    """ISO 13616: the first four characters go to the end, letters become 10 to 35, and the number is 1 modulo 97."""
    if not 15 <= len(text) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def _valid_card(digits: str) -> bool:
    """ISO/IEC 7812: the Luhn sum is a multiple of ten."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0 and len(set(digits)) > 1
