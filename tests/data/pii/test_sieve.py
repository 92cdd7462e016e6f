"""The sieve lets nothing through that the finder would find."""

from __future__ import annotations

import pytest

from include.data.pii.finder import DEFAULT, Kind
from include.data.pii.sieve import could_hold

from .labelled import labelled


def test_every_labelled_text_could_hold_its_kind() -> None:
    texts = [text for text in labelled() if text.kind is not None]
    assert all(could_hold(text.text, [text.kind]) for text in texts if text.kind is not None)
    assert all(could_hold(text.text[text.start : text.end], DEFAULT) for text in texts)


@pytest.mark.parametrize(
    "text", ["", "Nothing to see here.", "Within 10 days, see Rule 10.1.8: requirements.", "x" * 500_000]
)
def test_plain_text_needs_no_second_look(text: str) -> None:
    assert not could_hold(text, [Kind.EMAIL, Kind.CARD, Kind.IBAN, Kind.SSN, Kind.NINO, Kind.VIN])


def test_names_are_anywhere() -> None:
    assert could_hold("no digit", [Kind.NAME])
