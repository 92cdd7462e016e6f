"""Declared layouts: files of every format become the same rows of a table."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.data.declared import table_records
from include.data.rows import row_json
from include.errors import DataError, UserError
from include.families.contract import RawRecord

SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("size", pa.float64()), pa.field("day", pa.date32())]
)
COLUMNS = {"key": "ID"}
ROWS = [{"ID": "a", "size": 1.5, "day": "2026-10-12"}, {"ID": "b", "size": None, "day": None}]


def read(path: Path) -> list[RawRecord]:
    return list(table_records(path, "feed/f", "things", SCHEMA, max_row_bytes=1_000, columns=COLUMNS))


def write(folder: Path, name: str) -> Path:
    path = folder / name
    if name.startswith("f.csv"):
        data = b"ID,size,day\na,1.5,2026-10-12\nb,,\n"
    elif name.startswith("f.jsonl"):
        data = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    elif name == "f.json":
        data = json.dumps(ROWS).encode()
    else:
        days = pa.array([date(2026, 10, 12), None])
        pq.write_table(pa.table({"ID": ["a", "b"], "size": [1.5, None], "day": days}), path)
        return path
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("f.csv", "feed/f:2"),
        ("f.csv.gz", "feed/f:2"),
        ("f.jsonl", "feed/f:1"),
        ("f.jsonl.gz", "feed/f:1"),
        ("f.json", "feed/f:record 1"),
        ("f.parquet", "feed/f:row 1"),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, place: str) -> None:
    found = read(write(tmp_path, name))
    assert [record.values for record in found] == [
        {"key": "a", "size": 1.5, "day": date(2026, 10, 12)},
        {"key": "b", "size": None, "day": None},
    ]
    assert [record.problem for record in found] == [None, None]
    assert (found[0].table, found[0].place, found[0].raw) == ("things", place, "")


def test_a_broken_record_has_its_place_and_its_text(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("ID,size,day\na,big,\nb,2,\n")
    first, second = read(tmp_path / "f.csv")
    assert (first.problem, first.place, first.raw) == ("wrong_type", "feed/f:2", "a,big,")
    assert second.problem is None


def test_a_file_without_a_needed_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("id,size,day\na,1,\nb,2,\n")
    with pytest.raises(DataError, match="'ID' is missing"):
        read(tmp_path / "f.csv")


def test_a_header_without_rows_and_an_empty_array_bring_nothing(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("ID,size,day\n")
    (tmp_path / "f.json").write_text("[]")
    assert read(tmp_path / "f.csv") == read(tmp_path / "f.json") == []


def test_an_unknown_format_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "f.xls").write_text("x")
    with pytest.raises(UserError, match=r"f\.xls"):
        read(tmp_path / "f.xls")


def test_a_row_with_dates_has_a_json() -> None:
    row = {"day": date(2026, 10, 12), "raw": b"ab", "tags": [None, {"x": date(1969, 1, 1)}], "n": 1}
    assert row_json(row) == '{"day":"2026-10-12","n":1,"raw":"YWI=","tags":[null,{"x":"1969-01-01"}]}'
