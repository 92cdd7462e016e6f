"""Whatever a file holds, every record of it is clean, in quarantine, or there already; or the file is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from include.data.batches import read_parquet
from include.data.catalogue import Catalogue
from include.data.records import CheckedDelivery
from include.errors import DataError
from include.settings import Settings
from include.store.database import open_database

from .conftest import FAMILY, Deliveries, Pipeline, make_spec

FEW = how(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
LONG = 2_000  # bytes; a longer row is refused


def record(n: int, **changes: Any) -> dict[str, Any]:
    made = {"id": f"q-{n}", "question": f"What of {n}?", "answer": None, "cited": ["AA:AA-1.1"], "doc": "AA"}
    return made | changes


def line(n: int, **changes: Any) -> bytes:
    return json.dumps(record(n, **changes), ensure_ascii=False).encode("utf-8", "surrogatepass")


#: What may stand on a line, by its number.
LINES: list[Callable[[int], bytes]] = [
    line,
    line,
    lambda n: line(0),
    lambda n: line(n, id=n),
    lambda n: line(n, question=None),
    lambda n: line(n, question=["a", {"b": [1, {"c": None}]}]),
    lambda n: line(n, cited={"AA": 1}),
    lambda n: line(n, more={"deep": [[[[{"x": n}]]]]}),
    lambda n: json.dumps({"id": f"q-{n}"}).encode(),
    lambda n: line(n, question="🙂 مرحبا שלום 漢字 \u202e?"),
    lambda n: line(n, question="half \ud83d"),
    lambda n: line(n, question="NUL \0 inside"),
    lambda n: line(n, question="x" * LONG),
    lambda n: line(n)[:-7],
    lambda n: line(n).replace(b"What", b"Wh\xe4t"),
    lambda n: line(n).replace(b"null", b"NaN"),
    lambda n: line(n).replace(b"null", b"1e999"),
    lambda n: b"\x00" * 20,
    lambda n: b"[" * 1_500,
    lambda n: b"[1, 2, 3]",
    lambda n: b"%d" % n,
    lambda n: line(n, id=" ", answer=""),
]


def row(n: int, **changes: Any) -> str:
    values = record(n) | changes
    cells = [json.dumps(value) if isinstance(value, list) else value for value in values.values()]
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


CELLS: list[Callable[[int], bytes]] = [
    lambda n: row(n).encode(),
    lambda n: row(n).encode(),
    lambda n: row(0).encode(),
    lambda n: row(n, question="🙂 مرحبا, \u202e").encode(),
    lambda n: row(n).encode() + b",one,more",
    lambda n: b"only one cell",
    lambda n: b'"open ' + row(n).encode(),
    lambda n: row(n).encode() + b'"',
    lambda n: row(n, cited="no list").encode(),
    lambda n: row(n, question="caf").encode().replace(b"caf", b"caf\xe9"),
    lambda n: row(n, question="a\0b").encode(),
    lambda n: row(n, question="x" * LONG).encode(),
    lambda n: row(n, id="").encode(),
]
HEADER = b"id,question,answer,cited,doc\n"


class Feed:
    """One file of questions beside the rules that they cite, through ingest and validate."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder / "live"
        self.folder.mkdir()
        Deliveries(folder / "rules").add("2026-10-01", {"AA": ["Rule 1."]}, [record_of_rules()])
        columns = {"question_id": "id", "citations": "cited", "document_id": "doc"}
        sources = {
            "rules": {"role": "document_extraction", "url": str(folder / "rules")},
            "live": {"role": "production_queries", "url": str(self.folder), "table": "questions", "columns": columns},
        }
        tables = {name: {"key": key, "min_valid_rate": 0} for name, key in KEYS.items()}
        data = {"suite": "compliance_qa", "tables": tables, "sources": sources, "max_row_bytes": LONG}
        self.pipeline = Pipeline(settings, "", make_spec(data=data))
        self.settings = settings
        self._runs = 0

    def deliver(self, name: str, content: bytes) -> None:
        for old in self.folder.iterdir():
            old.unlink()
        (self.folder / f"2026-10-12-{name}").write_bytes(content)

    def check(self) -> CheckedDelivery | None:
        """What became of the file; None where it was refused, after making sure that nothing of it counts."""
        self._runs += 1
        run = f"r{self._runs}"
        catalogue = Catalogue(open_database(self.settings.database_url))
        before = catalogue.deliveries(FAMILY, "live")
        try:
            made = self.pipeline.step("ingest", {"run": run, "source": None, "since": None, "until": None}, run)
        except DataError as error:
            assert error.where
            assert error.hint
            assert catalogue.deliveries(FAMILY, "live") == before
            return None
        validated = self.pipeline.step("validate", {"deliveries": made["deliveries"]}, run)
        checked = [CheckedDelivery.model_validate(entry) for entry in validated["checked"]]
        found = next(entry for entry in checked if entry.source == "live")
        came = next(entry["rows_in"] for entry in made["deliveries"] if entry["delivery"] == found.delivery)
        assert came == found.rows_in
        self._account(found)
        return found

    def _account(self, found: CheckedDelivery) -> None:
        """Counts the rows where they lie, not where they were reported."""
        held = read_parquet(self.pipeline.store, found.quarantine_key).column("reasons").to_pylist()
        twice = sum(reasons == ["duplicate"] for reasons in held)
        clean = sum(read_parquet(self.pipeline.store, key).num_rows for key in found.clean_keys.values())
        assert (found.rows_clean, found.rows_duplicate, found.rows_quarantined) == (clean, twice, len(held) - twice)
        assert found.rows_in == found.rows_clean + found.rows_quarantined + found.rows_duplicate


KEYS = {"passages": "passage_key", "questions": "question_id"}


def record_of_rules() -> dict[str, Any]:
    return {"question_id": "r-1", "question": "Which rule?", "answer": None, "citations": ["AA-1.1"]}


@pytest.fixture
def feed(settings: Settings, tmp_path: Path) -> Feed:
    made = Feed(settings, tmp_path)
    made.pipeline.source = None  # type: ignore[assignment]
    return made


@pytest.mark.slow
@FEW
@given(
    kinds=st.lists(st.integers(0, len(LINES) - 1), min_size=1, max_size=60),
    start=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_json_lines(feed: Feed, kinds: list[int], start: bytes) -> None:
    lines = [LINES[kind](number) for number, kind in enumerate(kinds, 1)]
    feed.deliver("f.jsonl", start + b"\n".join(lines) + b"\n\n")
    found = feed.check()
    assert found is None or found.rows_in == len(lines)
    if {0, 1} & set(kinds):
        assert found is not None and found.rows_clean >= len([k for k in kinds if k in (0, 1)])


@pytest.mark.slow
@FEW
@given(kinds=st.lists(st.integers(0, len(CELLS) - 1), min_size=1, max_size=60), packed=st.booleans())
def test_csv(feed: Feed, kinds: list[int], packed: bool) -> None:
    lines = [CELLS[kind](number) for number, kind in enumerate(kinds, 1)]
    content = HEADER + b"\r\n".join(lines) + b"\r\n"
    feed.deliver("f.csv.gz" if packed else "f.csv", gzip.compress(content) if packed else content)
    found = feed.check()
    assert found is None or found.rows_in == len(lines)
    if {0, 1} & set(kinds):
        assert found is not None and found.rows_clean >= len([k for k in kinds if k in (0, 1)])


@pytest.mark.slow
@FEW
@given(data=st.binary(max_size=3_000), name=st.sampled_from(["f.jsonl", "f.json", "f.csv", "f.parquet", "f.csv.gz"]))
def test_any_bytes(feed: Feed, data: bytes, name: str) -> None:
    feed.deliver(name, data)
    feed.check()


def test_every_kind_of_line_at_once(feed: Feed) -> None:
    """Each kind twice, the second time as another record, and the reasons by name."""
    lines = [kind(number) for number, kind in enumerate(LINES * 2, 1)]
    feed.deliver("f.jsonl", b"\n".join(lines))
    found = feed.check()
    assert found is not None
    assert found.rows_in == len(lines)
    assert {
        "duplicate",
        "malformed_json",
        "missing_key",
        "not_utf8",
        "nul_byte",
        "too_long",
        "wrong_schema",
        "wrong_type",
    } <= set(found.reasons)


def test_parquet_with_other_types_and_numbers_that_are_none(feed: Feed, tmp_path: Path) -> None:
    rows = [record(n) | {"score": math.nan, "day": date(1, 1, 1)} for n in range(20)] + [record(3, id="q-3")]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    feed.deliver("f.parquet", buffer.getvalue())
    found = feed.check()
    assert found is not None
    assert (found.rows_in, found.rows_clean, found.rows_duplicate) == (21, 20, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.jsonl", b""),
        ("f.csv", b""),
        ("f.csv", b"\n\n"),
        ("f.csv", b"a,b\n1,2\n"),
        ("f.json", b'[{"id": 1}'),
        ("f.json", b'{"id": 1}'),
        ("f.parquet", b"PAR1 cut off"),
        ("f.csv", "id,question\n1,2\n".encode("utf-16")),
        ("f.jsonl.gz", gzip.compress(line(1) * 50)[:-9]),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_as_a_whole(feed: Feed, name: str, content: bytes) -> None:
    feed.deliver(name, content)
    assert feed.check() is None


def test_a_bomb_and_a_line_of_fifty_megabytes(feed: Feed) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = b"".join(pack.compress(bytes(1 << 20)) for _ in range(60)) + pack.flush()
    feed.deliver("f.jsonl.gz", data)
    assert feed.check() is None
    feed.deliver("f.jsonl", line(1) + b"\n" + b'{"id": "' + b"x" * 50_000_000 + b'"}\n' + line(2))
    found = feed.check()
    assert found is not None
    assert (found.rows_in, found.rows_clean, found.reasons) == (3, 2, {"too_long": 1})
