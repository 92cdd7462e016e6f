"""Texts with known personal data, made from a seed: sentences with a place for it, values with right check digits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from include.data.pii.finder import Kind

SENTENCES = (
    "Please write back to {} before the audit under Rule 4.1.1(c).",
    "The clerk left {} on file, see section 12.3.4 and Annex 7.",
    "We lent 1,250,000 on 12 October 2026; the reference is {} as agreed.",
    "Can we keep {} for six years?",
    "{} was what the client gave us, and nothing else.",
    "Is it a breach if {} appears in a report of 2,400 pages?",
)
ANNOUNCED = {
    Kind.PHONE: ("Call me on {} after 5.", "my mobile is {}, thanks", "Ring the desk: tel. {} or come by."),
    Kind.SSN: ("Her social security number is {}.", "SSN {} was on the form."),
    Kind.IP: ("The request came from {} at 14:30.", "Block the address {} today."),
    Kind.NINO: ("His National Insurance number is {}.", "NINO {} was on the form."),
}
#: Numbers as rule books have them, and what fails its check digit.
HARMLESS = (
    "Under Rule 10.1.8(3)(b) and 18.5.2, what must be filed by 2026-11-02?",
    "We lent 1,250,000 crowns on 12 October 2026 at 14:30.",
    "The order 4111 1111 1111 1112 is no card.",
    "GB82 WEST 1234 5698 7654 33 has a wrong check digit.",
    "Regulation 125-2019 applies between 2019-2020.",
    "Part 16.4.2 of chapter 3, paragraphs 139 - 145 or 166(b).",
    "Article 1 2 3 4 5 6 7 8 9 10 11 12.",
    "The handle @noon and a ratio of 3:2.",
    "Serial 1HGCM82633A004353 has a wrong check digit.",
    "Totals: 100,000; 200,000; 1,300,000 and 45%.",
    "Version 2.10.3 replaces 2.9.",
    "Form AB-123/45 of 31/12/2025.",
)


@dataclass(frozen=True)
class Labelled:
    """A text and the personal data in it: characters [start, end) and the kind; kind None: there is none."""

    text: str
    kind: Kind | None
    start: int = 0
    end: int = 0


def labelled(each: int = 60, seed: int = 7) -> list[Labelled]:
    """`each` texts of every kind but names, and 600 of none."""
    rng = random.Random(seed)
    made = [_placed(rng, kind) for kind in MAKERS for _ in range(each)]
    for number in range(600):
        made.append(Labelled(HARMLESS[number % len(HARMLESS)] + f" Case {rng.randrange(1, 999)}.", None))
    return made


def _placed(rng: random.Random, kind: Kind) -> Labelled:
    value = MAKERS[kind](rng)
    before, after = rng.choice(ANNOUNCED.get(kind, SENTENCES)).split("{}")
    return Labelled(before + value + after, kind, len(before), len(before) + len(value))


def _digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choices("0123456789", k=n))


def _email(rng: random.Random) -> str:
    name = "".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 9)))
    host, domain = rng.choice(["mail", "desk-two", "x1"]), rng.choice(["com", "org", "co.uk"])
    return f"{name}.{name[:2]}+{rng.randrange(99)}@{host}.example.{domain}"


def _phone(rng: random.Random) -> str:
    forms = ("+1 202 555 01{}", "(202) 555-01{}", "202-555-01{}", "+44 20 7946 09{}", "555-01{}", "+1 (202) 555-01{}")
    return rng.choice(forms).format(_digits(rng, 2))


def _card(rng: random.Random) -> str:
    body = "4" + _digits(rng, 14)
    digits = next(body + check for check in "0123456789" if _luhn(body + check))
    gap = rng.choice(["", " ", "-"])
    return gap.join(digits[start : start + 4] for start in range(0, 16, 4))


def _luhn(digits: str) -> bool:
    doubled = [int(d) * (2 if place % 2 else 1) for place, d in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _iban(rng: random.Random) -> str:
    body = _digits(rng, 18)
    check = 98 - int(body + "131400") % 97  # D is 13, E is 14
    whole = f"DE{check:02d}{body}"
    return whole if rng.random() < 0.5 else " ".join(whole[start : start + 4] for start in range(0, 22, 4))


def _ip(rng: random.Random) -> str:
    return rng.choice(["10.{}.{}.{}", "192.168.{1}.{2}", "203.0.{0}.{2}"]).format(
        *(rng.randrange(1, 255) for _ in "123")
    )


def _mac(rng: random.Random) -> str:
    return rng.choice([":", "-"]).join(f"{rng.randrange(256):02X}" for _ in range(6))


def _ssn(rng: random.Random) -> str:
    return f"{rng.randrange(100, 665)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}"


def _nino(rng: random.Random) -> str:
    return f"{rng.choice('ACEHJKL')}{rng.choice('ACEHJKL')}{_digits(rng, 6)}{rng.choice('ABCD')}"


def _vin(rng: random.Random) -> str:
    values = dict(
        zip("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", [*range(1, 9), *range(1, 6), 7, 9, *range(2, 10), *range(10)])
    )
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    body = rng.choices([*values], k=17)
    body[8] = "0"
    check = sum(values[c] * w for c, w in zip(body, weights, strict=True)) % 11
    return "".join([*body[:8], "X" if check == 10 else str(check), *body[9:]])


MAKERS = {
    Kind.EMAIL: _email, Kind.PHONE: _phone, Kind.CARD: _card, Kind.IBAN: _iban, Kind.IP: _ip, Kind.MAC: _mac,
    Kind.SSN: _ssn, Kind.NINO: _nino, Kind.VIN: _vin,
}  # fmt: skip


def scores(texts: list[Labelled], found: list[list[tuple[int, int, Kind]]]) -> Iterator[tuple[Kind, float, float]]:
    """Kind, precision, recall. A find is right where it covers the value; what it finds elsewhere is wrong."""
    for kind in MAKERS:
        right = sum(
            any(k is kind and s <= text.start and e >= text.end for s, e, k in spans)
            for text, spans in zip(texts, found, strict=True)
            if text.kind is kind
        )
        all_found = sum(k is kind for spans in found for _, _, k in spans)
        wanted = sum(text.kind is kind for text in texts)
        yield kind, right / all_found if all_found else 0.0, right / wanted
