"""Personal data is found and told from the numbers of rule books; nothing asks the network."""

from __future__ import annotations

import json
import socket
from itertools import pairwise
from typing import Any

import pytest

from include.data.pii.finder import Kind, PersonalDataFinder
from include.data.pii.vin import valid_vin
from include.errors import UserError
from include.expectations.text_faults import personal_data
from tests.conftest import SHARED_DATA

from .labelled import labelled, scores

CARS = SHARED_DATA / "sales_assistant" / "cars" / "craigslist_car.json"


@pytest.fixture(scope="module")
def finder() -> PersonalDataFinder:
    return PersonalDataFinder()


def kinds(finder: PersonalDataFinder, text: str) -> list[str]:
    return [f"{span.kind.value} {text[span.start : span.end]}" for span in finder.find(text)]


def test_precision_and_recall_on_labelled_texts(finder: PersonalDataFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the finder asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    texts = labelled()
    found = [[(span.start, span.end, span.kind) for span in finder.find(text.text)] for text in texts]
    for kind, precision, recall in scores(texts, found):
        assert precision >= 0.98, kind
        assert recall >= 0.98, kind
    assert not [text.text for text, spans in zip(texts, found, strict=True) if text.kind is None and spans]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Part 16.4.2 applies", []),
        ("ring me back on 555-0142", ["phone 555-0142"]),
        ("Section 555-0142 applies", []),
        ("VIN: JNRARO5Y7VW017312, clean title", ["vin JNRARO5Y7VW017312"]),
        ("1M8GDM9AXKP042788 runs well, 1M8GDM9A1KP042788 does not exist", ["vin 1M8GDM9AXKP042788"]),
        ("a@desk.example.com and b@desk.example.com", ["email a@desk.example.com", "email b@desk.example.com"]),
        ("write to nobody@nowhere.notadomain", []),
        ("123-45-6789 is no number without its name", []),
    ],
)
def test_single_texts(finder: PersonalDataFinder, text: str, found: list[str]) -> None:
    assert kinds(finder, text) == found


def test_it_finds_what_the_gate_finds(finder: PersonalDataFinder) -> None:
    for text in (labelled_.text for labelled_ in labelled(each=10, seed=3)):
        assert finder.find(text) or not personal_data(text), text


def test_only_what_is_asked_for_is_looked_for() -> None:
    assert kinds(PersonalDataFinder([Kind.VIN]), "a@desk.example.com, 1M8GDM9AXKP042788") == ["vin 1M8GDM9AXKP042788"]


def test_spans_do_not_overlap(finder: PersonalDataFinder) -> None:
    spans = finder.find("4111 1111 1111 1111 / +1 202 555 0117 / GB82 WEST 1234 5698 7654 32")
    assert [span.kind for span in spans] == [Kind.CARD, Kind.PHONE, Kind.IBAN]
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_names_need_a_pipeline() -> None:
    with pytest.raises(UserError, match="go together"):
        PersonalDataFinder([Kind.NAME])
    with pytest.raises(UserError, match="'en_core_web_xxl' is not installed"):
        PersonalDataFinder([Kind.NAME], names="en_core_web_xxl")


@pytest.mark.parametrize("vin", ["1M8GDM9AXKP042788", "11111111111111112", "5gzcz43d13s812715"])
def test_check_digits_of_vehicles(vin: str) -> None:
    assert valid_vin(vin) == (vin != "11111111111111112")


def test_any_slip_of_one_digit_is_noticed() -> None:
    vin = "1M8GDM9AXKP042788"
    assert not [
        changed
        for place in range(17)
        if vin[place].isdigit()
        for digit in "0123456789"
        if (changed := vin[:place] + digit + vin[place + 1 :]) != vin and valid_vin(changed)
    ]


@pytest.mark.slow
@pytest.mark.skipif(not CARS.is_file(), reason="the shared advertisements are not here")
def test_numbers_of_vehicles_in_real_advertisements(finder: PersonalDataFinder) -> None:
    """280 have a field VIN; in 201 its check digit is right, in the rest it is mistyped or no number at all."""
    fields = [car["attrs"]["VIN"] for car in json.loads(CARS.read_text()) if "VIN" in car["attrs"]]
    right = [vin for vin in fields if valid_vin(vin)]
    assert (len(fields), len(right)) == (280, 201)
    found = [kinds(finder, f"odometer: 125122 VIN: {vin} type: coupe") for vin in fields]
    assert sum(spans == [f"vin {vin}"] for vin, spans in zip(fields, found, strict=True) if vin in right) == 201
    assert sum(f"vin {vin}" in spans for vin, spans in zip(fields, found, strict=True)) >= 224
