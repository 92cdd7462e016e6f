"""A delivery is read, checked and published piece by piece; nothing may depend on where one piece ends."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.data import batches, marks
from include.data.batches import ParquetSink, raw_schema, stream_batch, write_batch
from include.data.marks import marks_of
from include.data.quarantine import list_quarantine, quarantined_rows
from include.data.rows import key_marks
from include.data.sieve import _repeats
from include.expectations.known import Known
from include.families.contract import RawRecord
from include.settings import Settings
from include.store.objects import open_store

from .conftest import FAMILY, Deliveries, Pipeline

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("tags", pa.list_(pa.string()))])


def outcome(pipeline: Pipeline) -> dict[str, object]:
    """What a run gave, with every row of the version and of the quarantine in its order."""
    made = pipeline.run()
    dataset = pipeline.dataset(made["dataset_version"])
    quarantined = [row for entry in list_quarantine(pipeline.store, FAMILY) for row in _rows(pipeline, entry.key)]
    rows = {name: dataset.table(name).to_pylist() for name in dataset.manifest.tables}
    return {"made": made, "rows": rows, "quarantined": quarantined}


def _rows(pipeline: Pipeline, key: str) -> list[object]:
    return list(quarantined_rows(pipeline.store, key))


def test_pieces_of_any_size_give_the_same(
    settings: Settings, source: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(Pipeline(Settings.from_env({"WINDTUNNEL_HOME": str(tmp_path / "whole")}), source.folder))
    monkeypatch.setattr(batches, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(marks, "HELD", 4)  # sorted on disk, and looked up in files
    pipeline = Pipeline(settings, source.folder)
    assert outcome(pipeline) == expected
    raw = next(key for key in pipeline.store.keys(f"raw/{FAMILY}/") if key.endswith("questions.parquet"))
    with batches.open_parquet(pipeline.store, raw) as file:
        assert file.num_row_groups > 3


@hypothesis_settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30), st.integers(1, 7))
def test_a_repetition_is_what_a_plain_loop_finds(rows: list[tuple[int, int]], size: int) -> None:
    known, found = Known(), list[str]()
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        keys = key_marks(pa.array([str(key) for key, _ in piece]))
        contents = marks_of(str(content).encode() for _, content in piece)
        same_key, same_content = _repeats(known, "t", keys, contents)
        found += ["key" if a else "content" if b else "clean" for a, b in zip(same_key, same_content, strict=True)]
        clean = ~(same_key | same_content)
        known.add("t", keys[clean], contents[clean])
    expected, seen_keys, seen_contents = list[str](), set[int](), set[int]()
    for key, content in rows:
        expected.append("key" if key in seen_keys else "content" if content in seen_contents else "clean")
        if expected[-1] == "clean":
            seen_keys.add(key)
            seen_contents.add(content)
    assert found == expected


@pytest.mark.parametrize("long", ["x" * 400, ["x" * 40] * 10])
def test_a_piece_of_long_rows_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: object) -> None:
    monkeypatch.setattr(batches, "SIZE_PER_GROUP", 1_000)
    store = open_store(tmp_path.as_uri())
    values = {"key": long, "tags": []} if isinstance(long, str) else {"key": "k", "tags": long}
    records = [RawRecord("things", f"f:{number}", values) for number in range(10)]
    assert write_batch(store, "raw/b", {"things": SCHEMA}, records, lambda: None) == 10
    pieces = [piece.num_rows for piece in stream_batch(store, "raw/b", "things")]
    assert sum(pieces) == 10
    assert max(pieces) <= 3


def test_an_empty_file_has_no_piece(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    write_batch(store, "raw/b", {"things": SCHEMA}, [], lambda: None)
    assert list(stream_batch(store, "raw/b", "things")) == []
    with ParquetSink(tmp_path / "f.parquet", raw_schema(SCHEMA)) as sink:
        sink.write_rows([])
    assert sink.rows == 0
