"""What is the same row, and what is the same content."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.data import marks as marks_module
from include.data.marks import SortedMarks, marks_of
from include.data.rows import content_digest, describe_schema, digest_column, marks_of_digests, row_json, row_marks


def batch(*rows: dict[str, object], schema: pa.Schema | None = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=schema)


def digest_of(*parts: list[str], schema: tuple[str, ...] = ("a",), **named: list[str]) -> str:
    """The digest of rows that stand in the given parts, told to it one after the other."""
    with ExitStack() as stack:
        marks = {name: stack.enter_context(SortedMarks()) for name in named or {"": ()}}
        for name, texts in named.items() if named else [("", text) for text in parts]:
            marks[name].add(marks_of(text.encode() for text in texts))
        return content_digest(schema, marks)


class TestDigests:
    ROWS = ({"k": "1", "tags": ["a", "b"], "text": None}, {"k": "2", "tags": [], "text": "ü"})
    NAMES = ("k", "tags", "text")

    def test_a_row_is_its_values(self) -> None:
        first, second = row_marks(batch(*self.ROWS), self.NAMES)
        assert first != second
        assert list(row_marks(batch(*self.ROWS), ["text", "k", "tags"])) == [first, second]
        kinds = batch(*self.ROWS).schema
        for change in ({"tags": ["b", "a"]}, {"tags": ["ab"]}, {"tags": None}, {"text": ""}, {"k": "11"}, {"k": None}):
            assert row_marks(batch({**self.ROWS[0], **change}, schema=kinds), self.NAMES)[0] != first, change

    @hypothesis_settings(deadline=None)
    @given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=2, max_size=2), max_size=30))
    def test_rows_are_the_same_when_their_values_are(self, rows: list[list[str | None]]) -> None:
        made = [dict(zip("ab", row, strict=True)) for row in rows]
        marks = row_marks(batch(*made, schema=pa.schema([("a", pa.string()), ("b", pa.string())])), ["a", "b"])
        assert len(set(marks.tolist())) == len({tuple(row) for row in rows})

    def test_every_type_has_a_mark(self) -> None:
        row = {
            "whole": 7, "real": 0.1, "nan": float("nan"), "inf": float("-inf"), "flag": True, "raw": b"\0\xff",
            "day": date(1969, 12, 31), "at": datetime(2026, 1, 1, tzinfo=UTC), "money": Decimal("1.10"),
            "deep": [[1, None], []], "record": {"a": "x", "b": None}, "nothing": None,
        }  # fmt: skip
        made = batch(row)
        one = row_marks(made, made.schema.names)
        assert list(one) == list(row_marks(made, made.schema.names))
        for name in made.schema.names:
            empty = made.set_column(made.schema.names.index(name), name, pa.nulls(1, made.schema.field(name).type))
            assert (row_marks(empty, made.schema.names)[0] == one[0]) == (name == "nothing"), name

    def test_a_digest_leads_back_to_its_mark(self) -> None:
        marks = marks_of([b"a", b"", b"\0"])
        assert [len(text) for text in digest_column(marks).to_pylist()] == [32, 32, 32]
        assert list(marks_of_digests(digest_column(marks))) == list(marks)
        assert list(marks_of_digests(digest_column(marks)[1:])) == list(marks[1:])

    def test_content_does_not_depend_on_the_order_of_rows(self) -> None:
        assert digest_of(["x", "y"]) == digest_of(["y", "x"]) == digest_of(["y"], ["x"])
        assert digest_of(["x", "y"]) != digest_of(["x", "y", "y"])
        assert digest_of(["x"]) != digest_of(["x"], schema=("a: int",))
        assert digest_of(train=["x"], test=["y"]) == digest_of(test=["y"], train=["x"])
        assert digest_of(train=["x"], test=["y"]) != digest_of(train=["y"], test=["x"])

    def test_content_is_the_same_on_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = [str(number % 900) for number in range(1_000)]
        expected = digest_of(texts)
        monkeypatch.setattr(marks_module, "HELD", 64)
        assert digest_of(*([text] for text in texts)) == expected

    def test_a_schema_is_the_same_before_and_after_storage(self) -> None:
        before = pa.schema([("a", pa.large_string()), ("b", pa.list_(pa.field("item", pa.string())))])
        after = pa.schema([("a", pa.string()), ("b", pa.list_(pa.field("element", pa.string())))])
        assert describe_schema(before) == describe_schema(after) == ("a: string", "b: list<string>")

    def test_a_row_is_json_whatever_it_holds(self) -> None:
        row = {"nan": float("nan"), "inf": [float("-inf")], "day": date(1969, 12, 31), "raw": b"\0", "text": "ü"}
        assert json.loads(row_json(row)) == {
            "nan": "nan", "inf": ["-inf"], "day": "1969-12-31", "raw": "AA==", "text": "ü"
        }  # fmt: skip
