"""Personal data and wrong encodings are found, and the numbers of rule books are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.expectations.text_faults import mask_personal_data, personal_data, wrong_encoding


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to desk.seven+x@mail.example.com please", "email"),
        ("Call me on +1 202 555 0117 today", "phone"),
        ("my number is +44-20-7946-0123.", "phone"),
        ("or (202) 555-0188", "phone"),
        ("202-555-0188 until six", "phone"),
        ("ring me back on 555-0142", "phone"),
        ("Tel. 5550 0142", "phone"),
        ("paid to GB82 WEST 1234 5698 7654 32 today", "iban"),
        ("DE89370400440532013000", "iban"),
        ("the card 4111 1111 1111 1111 was used", "card"),
        ("4111-1111-1111-1111", "card"),
        (None, None),
        ("", None),
        ("Under Rule 10.1.8(3)(b) and 18.5.2, what must be filed by 2026-11-02?", None),
        ("We lent 1,250,000 crowns on 12 October 2026 at 14:30", None),
        ("GB82 WEST 1234 5698 7654 33 has a wrong check digit", None),
        ("the order 4111 1111 1111 1112 is no card", None),
        ("reference 0000 0000 0000 0000", None),
        ("Regulation 125-2019 applies between 2019-2020", None),
        ("Call the meeting. Section 555-0142 applies", None),
        ("meet @noon, please", None),
        ("Article 1 2 3 4 5 6 7 8 9 10 11 12", None),
    ],
)
def test_personal_data(text: str | None, kind: str | None) -> None:
    assert personal_data(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "the regulatorâ€™s fee",
        "cafÃ© and crÃ¨me",
        "a fee of Â£40",
        "lost \ufffd character",
        "a \x00 zero",
        "\x1b[31m",
        "Ã\x89tude",
    ],
)
def test_wrong_encodings_are_found(text: str) -> None:
    assert wrong_encoding(text)


@pytest.mark.parametrize(
    "text", ["the regulator’s café, £40 – “quoted”", "SÃO PAULO", "Âge, pâte", "a\tb\nc\r\n", "", None]
)
def test_right_encodings_pass(text: str | None) -> None:
    assert wrong_encoding(text) is None


def test_text_that_was_decoded_twice_is_found_for_every_accented_letter() -> None:
    for letter in "àâäçèéêëîïôöùûüÿñßÀÉÖÜ’“”–—…€£©":
        for codec in ("latin-1", "cp1252"):
            garbled = letter.encode().decode(codec, errors="replace")
            assert wrong_encoding(garbled), (letter, codec)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to ada.b+c@mail.example.org today", "Write to [email] today"),
        ("Call me on 555-0142?", "Call me on [phone]?"),
        ("ring 555-0142 or 555-0143", "ring [phone] or [phone]"),
        ("from GB82 WEST 1234 5698 7654 32, please", "from [iban], please"),
        ("card 4111 1111 1111 1111.", "card [card]."),
        ("rule 4.1.2, 1234 5678 crowns", "rule 4.1.2, 1234 5678 crowns"),
        ("", ""),
    ],
)
def test_only_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask_personal_data(text) == masked


_PIECES = [
    "call",
    " ",
    "555-0142",
    "+44 20 7946 0958",
    "a@b.co",
    "4111111111111111",
    "GB82WEST12345698765432",
    ".",
    "7",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_nothing_that_is_found_is_left(text: str) -> None:
    assert personal_data(mask_personal_data(text)) is None
