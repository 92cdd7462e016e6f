"""The contract of the dataset tables, held on a local folder and on S3."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from include.store.datasets import DatasetError, DeltaTables
from include.store.objects import ObjectStore, open_store

TABLE = "datasets/some_family/source/questions"


def rows(delivery: str, *keys: str, **more: object) -> pa.Table:
    columns = {"key": list(keys), "tags": [["a", "b"]] * len(keys), "delivery": [delivery] * len(keys)}
    columns |= {name: [value] * len(keys) for name, value in more.items()}
    kinds = {"key": pa.string(), "tags": pa.list_(pa.string()), "delivery": pa.string()}
    return pa.table({name: pa.array(values, kinds.get(name)) for name, values in columns.items()})


def content(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def put(tables: DeltaTables, delivery: str, *keys: str) -> bool:
    return tables.put_delivery(TABLE, delivery, rows(delivery, *keys), content(f"{delivery}{keys}"))


def read(tables: DeltaTables, version: int | None = None, deliveries: set[str] | None = None) -> list[str]:
    newest = tables.version(TABLE)
    assert newest is not None
    table = tables.read(TABLE, newest if version is None else version, deliveries, ["key"])
    return sorted(table.column("key").to_pylist())


@pytest.fixture
def tables(store: ObjectStore) -> DeltaTables:
    return DeltaTables(store)


class TestContract:
    def test_a_delivery_is_put_once(self, tables: DeltaTables) -> None:
        assert tables.version(TABLE) is None
        assert put(tables, "d1", "a", "b")
        before = tables.version(TABLE)
        assert not put(tables, "d1", "a", "b")
        assert tables.version(TABLE) == before
        assert read(tables) == ["a", "b"]

    def test_holds_tells_whether_the_content_is_there(self, tables: DeltaTables) -> None:
        assert not tables.holds(TABLE, "d1", content("x"))
        tables.put_delivery(TABLE, "d1", rows("d1", "a"), content("x"))
        assert tables.holds(TABLE, "d1", content("x"))
        assert not tables.holds(TABLE, "d1", content("y"))
        assert not tables.holds(TABLE, "d2", content("x"))

    def test_a_corrected_delivery_takes_the_place_of_the_old(self, tables: DeltaTables) -> None:
        put(tables, "d1", "a", "b")
        put(tables, "d2", "c")
        old = tables.version(TABLE)
        assert put(tables, "d1", "a", "x")
        assert read(tables) == ["a", "c", "x"]
        assert put(tables, "d1", "a", "b")  # and back again
        assert read(tables) == ["a", "b", "c"]
        assert old is not None
        assert read(tables, old) == ["a", "b", "c"]

    def test_a_correction_may_leave_no_row(self, tables: DeltaTables) -> None:
        put(tables, "d1", "a")
        put(tables, "d2", "b")
        assert put(tables, "d1")
        assert read(tables) == ["b"]

    def test_an_old_version_stays_as_it_was(self, tables: DeltaTables) -> None:
        put(tables, "d1", "a")
        first = tables.version(TABLE)
        put(tables, "d2", "b")
        put(tables, "d1", "z")
        assert first is not None
        assert read(tables, first) == ["a"]

    def test_only_the_wanted_deliveries_are_read(self, tables: DeltaTables) -> None:
        put(tables, "d1", "a")
        put(tables, "d2", "b")
        assert read(tables, deliveries={"d2", "d9"}) == ["b"]

    def test_types_survive(self, tables: DeltaTables) -> None:
        tables.put_delivery(TABLE, "d1", rows("d1", "ü\n'x'"), content("1"))
        table = tables.read(TABLE, tables.version(TABLE) or 0)
        assert table.to_pylist() == [{"key": "ü\n'x'", "tags": ["a", "b"], "delivery": "d1"}]

    def test_the_schema_is_that_of_the_rows(self, tables: DeltaTables) -> None:
        put(tables, "d1", "a")
        version = tables.version(TABLE) or 0
        assert tables.schema(TABLE, version) == tables.read(TABLE, version).schema

    def test_what_is_not_there_cannot_be_read(self, tables: DeltaTables) -> None:
        for use in (tables.schema, tables.read):
            with pytest.raises(DatasetError, match="cannot be read"):
                use(TABLE, 0)

    def test_a_new_column_is_null_in_old_rows(self, tables: DeltaTables) -> None:
        put(tables, "d1", "a")
        tables.put_delivery(TABLE, "d2", rows("d2", "b", note="n"), content("with a note"))
        table = tables.read(TABLE, tables.version(TABLE) or 0).sort_by("key")
        assert table.column("note").to_pylist() == [None, "n"]

    def test_a_column_that_changes_its_type_is_refused(self, tables: DeltaTables) -> None:
        tables.put_delivery(TABLE, "d1", rows("d1", "a", size="large"), content("text"))
        with pytest.raises(DatasetError):
            tables.put_delivery(TABLE, "d2", rows("d2", "b", size={"w": 1}), content("struct"))
        assert read(tables) == ["a"]

    def test_rivals_with_the_same_delivery_put_it_once(self, tables: DeltaTables) -> None:
        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(lambda _: put(tables, "d1", "a", "b"), range(6)))
        assert outcomes.count(True) == 1
        assert read(tables) == ["a", "b"]

    def test_rivals_with_different_deliveries_all_succeed(self, tables: DeltaTables) -> None:
        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(lambda n: put(tables, f"d{n}", f"key{n}"), range(8)))
        assert all(outcomes)
        assert read(tables) == [f"key{n}" for n in range(8)]

    def test_rivals_with_corrections_leave_one_of_them(self, tables: DeltaTables) -> None:
        put(tables, "d1", "old")
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda n: put(tables, "d1", f"a{n}", f"b{n}"), range(5)))
        found = read(tables)
        assert len(found) == 2
        assert found[0][1:] == found[1][1:]


@pytest.mark.slow
def test_a_delivery_is_known_after_the_log_was_shortened(tmp_path: Path) -> None:
    """Delta writes a checkpoint after every hundred commits; later readers start from it."""
    store = open_store(tmp_path.as_uri())
    for number in range(105):
        put(DeltaTables(store), f"d{number:03d}", f"k{number}")
    assert any("checkpoint" in key for key in store.keys(f"{TABLE}/_delta_log/"))
    assert not put(DeltaTables(store), "d001", "k1")
    assert len(read(DeltaTables(store))) == 105


@pytest.mark.slow
def test_rival_processes_put_a_delivery_once(store_url: str) -> None:
    code = (
        "import sys; import tests.store.test_datasets as t; from include.store.objects import open_store\n"
        "tables = t.DeltaTables(open_store(sys.argv[1]))\n"
        "sys.stdin.readline()\n"
        "print(sum(t.put(tables, f'd{n}', f'a{n}', f'b{n}') for n in range(6)))"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, store_url]
    rivals = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(3)
    ]
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    outputs = [rival.communicate()[0] for rival in rivals]
    assert sum(int(output) for output in outputs) == 6
    assert read(DeltaTables(open_store(store_url))) == sorted(f"{letter}{n}" for letter in "ab" for n in range(6))


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written") as caught:
        put(DeltaTables(open_store((tmp_path / "file").as_uri())), "d1", "a")
    assert "disk" in caught.value.hint
