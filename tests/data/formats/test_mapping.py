"""Records become rows of a table: names are mapped, and no value of another type gets through."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.data.formats import FileFormat, Parsed, TableMapping, format_of, mapped_records, parsed_file
from include.data.formats.convert import NotFinite, converter
from include.errors import DataError

WRONG = (ValueError, TypeError, OverflowError, pa.ArrowException)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (pa.string(), " kept as it is 🙂", " kept as it is 🙂"),
        (pa.int64(), " -42 ", -42),
        (pa.int64(), "120000.0", 120_000),
        (pa.int8(), 127, 127),
        (pa.uint64(), "18446744073709551615", 2**64 - 1),
        (pa.int64(), 3.0, 3),
        (pa.float64(), "-1.5e3", -1500.0),
        (pa.float64(), Decimal("1.5"), 1.5),
        (pa.float64(), 7, 7.0),
        (pa.bool_(), "Yes", True),
        (pa.bool_(), "0", False),
        (pa.date32(), "1899-12-31", date(1899, 12, 31)),
        (pa.date32(), "9999-12-31", date(9999, 12, 31)),
        (pa.date32(), datetime(2026, 1, 2), date(2026, 1, 2)),
        (pa.timestamp("us"), "1850-01-01T00:00:00+02:00", datetime(1849, 12, 31, 22)),
        (pa.timestamp("us", "UTC"), "2026-10-12T08:30:00Z", datetime(2026, 10, 12, 8, 30, tzinfo=UTC)),
        (pa.timestamp("ms"), date(2026, 1, 2), datetime(2026, 1, 2)),
        (pa.decimal128(6, 2), "12.50", Decimal("12.50")),
        (pa.list_(pa.string()), '["a", null]', ["a", None]),
        (pa.binary(), b"ab", b"ab"),
    ],
)
def test_a_value_of_the_type_comes_out_as_arrow_gives_it_back(kind: pa.DataType, value: Any, expected: Any) -> None:
    made = converter(kind, True)(value)
    assert made == expected
    back = pa.array([made], kind).to_pylist()[0]
    assert back == expected or back.replace(tzinfo=UTC) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.string(), 5),
        (pa.string(), b"ab"),
        (pa.int64(), "1_000"),
        (pa.int64(), "١٢"),
        (pa.int64(), "1.5"),
        (pa.int64(), True),
        (pa.int64(), 2**63),
        (pa.int8(), "128"),
        (pa.uint8(), -1),
        (pa.int64(), 1e300),
        (pa.float64(), "12,5"),
        (pa.float64(), "0x10"),
        (pa.float64(), True),
        (pa.float32(), "1e39"),
        (pa.float64(), 10**400),
        (pa.bool_(), "maybe"),
        (pa.bool_(), 1),
        (pa.date32(), "12.10.2026"),
        (pa.date32(), "2026-02-30"),
        (pa.date32(), 20_000),
        (pa.date32(), datetime(2026, 1, 2, 3)),
        (pa.timestamp("ns"), "2500-01-01T00:00:00"),
        (pa.timestamp("us"), "0001-01-01T00:00:00+14:00"),
        (pa.timestamp("us"), "soon"),
        (pa.decimal128(4, 2), "12345.6"),
        (pa.decimal128(4, 2), "much"),
        (pa.list_(pa.int64()), '["a"]'),
        (pa.list_(pa.int64()), "[" * 5_000),
        (pa.list_(pa.string()), '{"a": 1}'),
        (pa.binary(), 5),
    ],
)
def test_a_value_of_another_type_is_refused(kind: pa.DataType, value: Any) -> None:
    with pytest.raises(WRONG):
        converter(kind, True)(value)


@pytest.mark.parametrize("value", ["NaN", "-inf", "Infinity", "1e400", math.nan, -math.inf, Decimal("NaN")])
def test_numbers_that_are_not_finite_are_no_numbers(value: Any) -> None:
    with pytest.raises(NotFinite):
        converter(pa.float64(), True)(value)


def test_text_is_no_number_where_the_file_has_types() -> None:
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        with pytest.raises(TypeError):
            converter(kind, False)("1")


SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("size", pa.int64()), pa.field("note", pa.string())]
)


def mapped(value: dict[str, Any], **changes: Any) -> Parsed:
    mapping = TableMapping(
        SCHEMA, **({"columns": {"key": "ID"}, "nulls": frozenset({""}), "from_text": True} | changes)
    )
    return next(mapped_records(iter([Parsed(3, value, raw="raw")]), mapping))


class TestRecords:
    def test_names_are_mapped_and_further_ones_left_out(self) -> None:
        found = mapped({"ID": "a", "size": "5", "note": "", "else": "x"})
        assert (found.number, found.problem) == (3, None)
        assert found.value == {"key": "a", "size": 5, "note": None}

    def test_a_column_that_may_be_empty_may_be_absent(self) -> None:
        assert mapped({"ID": "a"}).value == {"key": "a", "size": None, "note": None}

    @pytest.mark.parametrize(
        ("value", "problem", "detail"),
        [
            ({}, "wrong_schema", "'ID' is missing"),
            ({"ID": ""}, "wrong_schema", "'ID' has no value"),
            ({"ID": "a", "size": "large"}, "wrong_type", "'size' must be a whole number, not 'large'"),
            ({"ID": 7}, "wrong_type", "'ID' must be text, not int"),
            ({"ID": "a", "size": math.nan}, "not_finite", "'size' is nan"),
            ({"ID": "a", "note": "x\0y"}, "nul_byte", "in 'note'"),
            ({"ID": "a", "note": "\ud83d"}, "not_utf8", "in 'note'"),
        ],
    )
    def test_a_fault_has_a_name(self, value: dict[str, Any], problem: str, detail: str) -> None:
        found = mapped(value)
        assert (found.problem, found.detail, found.value, found.raw) == (problem, detail, {}, "raw")

    def test_a_fault_that_was_found_before_stays(self) -> None:
        record = Parsed(1, {}, "too_long", "longer than 5 bytes")
        assert list(mapped_records(iter([record]), TableMapping(SCHEMA))) == [record]


class TestParquet:
    def test_rows_with_their_types(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"key": ["a", "b"], "n": [1, None]}), tmp_path / "f.parquet")
        found = list(parsed_file(tmp_path / "f.parquet", FileFormat.PARQUET, 1_000))
        assert [row.value for row in found] == [{"key": "a", "n": 1}, {"key": "b", "n": None}]
        assert [row.number for row in found] == [1, 2]

    def test_a_row_that_is_too_long_hides_no_other(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"key": ["a", "x" * 2_000, "b"]}), tmp_path / "f.parquet")
        found = list(parsed_file(tmp_path / "f.parquet", FileFormat.PARQUET, 1_000))
        assert [row.problem for row in found] == [None, "too_long", None]
        assert len(found[1].raw) < 300

    def test_every_truncation_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "f.parquet"
        pq.write_table(pa.table({"key": [str(n) for n in range(500)]}), path)
        whole = path.read_bytes()
        for end in (0, 3, 4, len(whole) // 2, len(whole) - 9, len(whole) - 1):
            path.write_bytes(whole[:end])
            with pytest.raises(DataError, match=r"Parquet|is empty"):
                list(parsed_file(path, FileFormat.PARQUET, 1_000))

    def test_damaged_pages_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "f.parquet"
        pq.write_table(pa.table({"key": [str(n) * 9 for n in range(5_000)]}), path, compression="zstd")
        data = bytearray(path.read_bytes())
        data[200:1_200] = bytes(1_000)
        path.write_bytes(data)
        with pytest.raises(DataError, match="Parquet"):
            list(parsed_file(path, FileFormat.PARQUET, 1_000))

    def test_no_columns_and_too_much_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "f.parquet"
        pq.write_table(pa.table({}), path)
        with pytest.raises(DataError, match="no columns"):
            list(parsed_file(path, FileFormat.PARQUET, 1_000))
        pq.write_table(pa.table({"key": ["same"] * 100_000}), path)
        with pytest.raises(DataError, match="unpacks to more"):
            list(parsed_file(path, FileFormat.PARQUET, 1_000, 100_000))


def test_formats_are_known_by_the_ending_of_the_name() -> None:
    names = {
        "a.CSV": FileFormat.CSV,
        "a.jsonl.gz": FileFormat.JSONL,
        "b/a.json": FileFormat.JSON,
        "a.txt.gz": FileFormat.CSV,
    }
    assert {name: format_of(name) for name in names} == names
    assert format_of("README") is None
