"""Every step on single rows: what it makes, and what it cannot handle."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from include.data.prepare import augment
from include.data.prepare.keys import PseudonymKey
from include.data.prepare.steps import VERSIONS, Unfit, change_of, new_fields
from include.errors import UserError
from include.spec.prepare import TRANSFORMS, PrepareStep, RowStep

KEY = "a key that is long enough"


def step(transform: str, **values: Any) -> RowStep:
    made: RowStep = TypeAdapter(PrepareStep).validate_python({"transform": transform, "table": "t", **values})
    return made


def apply(transform: str, row: dict[str, Any], **values: Any) -> dict[str, Any]:
    return change_of(step(transform, **values))(row)


def test_every_transform_has_a_version() -> None:
    assert VERSIONS.keys() | augment.VERSIONS.keys() == TRANSFORMS


@pytest.mark.parametrize(
    ("text", "clean"), [("  ｆｅｅ \n\t is \u00a0 due ", "fee is due"), ("", ""), (None, None), ("ﬁne", "fine")]
)
def test_normalise_text(text: str | None, clean: str | None) -> None:
    assert apply("normalise_text", {"q": text}, columns=["q"]) == {"q": clean}


@given(st.text())
def test_text_that_is_normal_stays(text: str) -> None:
    once = apply("normalise_text", {"q": text}, columns=["q"])
    assert apply("normalise_text", once, columns=["q"]) == once


def test_text_length() -> None:
    assert apply("text_length", {"q": "who pays?"}, column="q", into="n") == {"n": 9}
    assert apply("text_length", {"q": "who  pays?"}, column="q", into="n", unit="words") == {"n": 2}
    assert apply("text_length", {"q": None}, column="q", into="n") == {"n": 0}


@pytest.mark.parametrize(
    "value", [date(2026, 11, 2), datetime(2026, 11, 2, tzinfo=UTC), "2026-11-02", " 2026-11-02T00:30:00+02:00"]
)
def test_date_parts(value: object) -> None:
    parts = ["year", "quarter", "month", "day", "weekday", "hour"]
    made = apply("date_parts", {"at": value}, column="at", parts=parts)
    assert made == {"at_year": 2026, "at_quarter": 4, "at_month": 11, "at_day": 2, "at_weekday": 0, "at_hour": 0}


@pytest.mark.parametrize(("value", "words"), [(None, "missing"), ("soon", "no ISO"), (20261102, "no date")])
def test_what_is_no_date_is_unfit(value: object, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        apply("date_parts", {"at": value}, column="at", parts=["year"])


def test_one_hot() -> None:
    values = {"column": "kind", "values": ["Own home", "rent", "2"]}
    assert apply("one_hot", {"kind": "rent"}, **values) == {"kind_own_home": 0, "kind_rent": 1, "kind_2": 0}
    assert apply("one_hot", {"kind": 2}, **values)["kind_2"] == 1
    with pytest.raises(Unfit, match="none of the 3 known values"):
        apply("one_hot", {"kind": "tent"}, **values)
    assert set(apply("one_hot", {"kind": None}, **values, unknown="zeros").values()) == {0}


def test_ratio() -> None:
    values = {"numerator": "a", "denominator": "b", "into": "r"}
    assert apply("ratio", {"a": 1, "b": 4}, **values) == {"r": 0.25}
    for row in ({"a": 1, "b": 0}, {"a": None, "b": 1}, {"a": 1.0, "b": None}, {"a": 1e308, "b": 1e-308}):
        with pytest.raises(Unfit):
            apply("ratio", row, **values)


class TestPseudonyms:
    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINDTUNNEL_PSEUDONYM_KEY", KEY)

    def test_equal_values_stay_equal_and_null_stays_null(self) -> None:
        rows = [apply("pseudonymise", {"who": who}, columns=["who"])["who"] for who in ("ann", "bob", "ann", None)]
        assert rows[0] == rows[2] != rows[1]
        assert rows[3] is None

    def test_another_key_makes_others(self) -> None:
        assert PseudonymKey(KEY).pseudonym("ann") != PseudonymKey(KEY + "!").pseudonym("ann")
        assert PseudonymKey(KEY).check != PseudonymKey(KEY + "!").check

    def test_the_key_is_never_shown(self) -> None:
        assert KEY not in repr(PseudonymKey(KEY))
        with pytest.raises(UserError, match="too short") as caught:
            PseudonymKey("short secret")
        assert "short secret" not in str(caught.value)

    def test_no_key_no_pseudonym(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WINDTUNNEL_PSEUDONYM_KEY")
        with pytest.raises(UserError, match="no key for pseudonyms"):
            change_of(step("pseudonymise", columns=["who"]))

    def test_masks(self) -> None:
        row = {"q": "Write to A@desk.example.com or a@desk.example.com, call +1 202 555 0117.", "a": None}
        masked = apply("mask_personal_data", row, columns=["q", "a"])
        assert masked == {"q": "Write to [email] or [email], call [phone].", "a": None}
        keyed = apply("mask_personal_data", row, columns=["q"], keyed=True, kinds=["email"])["q"]
        first, second = (part.partition("]")[0] for part in keyed.split("[email:")[1:])
        assert first == second
        assert keyed.endswith("call +1 202 555 0117.")

    def test_masking_twice_is_masking_once(self) -> None:
        row = {"q": "VIN 1M8GDM9AXKP042788, tel. 555-0142, card 4111 1111 1111 1111"}
        once = apply("mask_personal_data", row, columns=["q"], keyed=True)
        assert once["q"].startswith("VIN [vin:")
        assert apply("mask_personal_data", once, columns=["q"], keyed=True) == once


@pytest.mark.parametrize(
    ("transform", "values"),
    [
        ("normalise_text", {"columns": []}),
        ("one_hot", {"column": "a", "values": []}),
        ("mask_personal_data", {"columns": ["a"], "kinds": ["shoe size"]}),
        ("date_parts", {"column": "a", "parts": ["century"]}),
        ("guess", {"column": "a"}),
        ("ratio", {"numerator": "a", "denominator": "b"}),
    ],
)
def test_a_wrong_step_is_refused(transform: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        step(transform, **values)


def test_new_columns_have_types() -> None:
    assert new_fields(step("ratio", numerator="a", denominator="b", into="r")) == [pa.field("r", pa.float64())]
    assert new_fields(step("date_parts", column="a", parts=["year"])) == [pa.field("a_year", pa.int32())]
