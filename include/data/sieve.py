"""Divides a raw batch into clean and quarantined rows, piece by piece: memory does not grow with a delivery.

Every record that came in is in exactly one of the two. The reasons of a quarantined row are the names of all
expectations that it failed, the name of what kept it from being parsed, or `duplicate`: the same key, or the same
values under another key, was clean before it. In a released delivery a reason does not count for a row for which a
person waived it. Personal data that a row is quarantined for is masked; as it came it is only in the raw batch.

Duplicates are quarantined like any other row, but they do not lower the table's validation rate: a feed that sends a
row twice is not a broken feed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from include.data.batches import PLACE, PROBLEMS, ParquetSink, raw_schema, stream_batch
from include.data.marks import SIZE, Marks, SortedMarks, repeated
from include.data.prepare.rows import Preparation
from include.data.qa.gate import PairGate
from include.data.records import SAMPLES, DeliveryCheck, ExpectationCount, IngestedDelivery, TableCheck
from include.data.released import Waivers, is_release
from include.data.rows import content_digest, describe_schema, digest_column, key_marks, row_json, row_marks
from include.expectations.known import Known
from include.expectations.text_faults import mask_personal_data
from include.spec.models import BaseFamilySpec
from include.store.objects import ObjectStore

DUPLICATE = "duplicate"
MISSING_VALUE = "missing_value"
PERSONAL_DATA = "personal_data"
DIGEST = "digest"

QUARANTINE_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("key", pa.string()),
        (PLACE, pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
        ("values", pa.string()),  # JSON of the row, or the start of what could not be parsed
        ("parsed", pa.bool_()),
    ]
)
_MARK = pa.binary(SIZE)
_KEYS_SCHEMA = pa.schema([("table", pa.string()), ("key", _MARK), ("content", _MARK)])


@dataclass
class _Tally:
    """What was found in one table so far."""

    rows_in: int = 0
    rows_clean: int = 0
    rows_duplicate: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    waived: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)
    expectations: list[ExpectationCount] = field(default_factory=list)

    def clean(self, rows: int) -> None:
        self.rows_in += rows
        self.rows_clean += rows

    def quarantined(self, row: Mapping[str, Any]) -> None:
        self.rows_in += 1
        self.rows_duplicate += row["reasons"] == [DUPLICATE]
        self.reasons.update(row["reasons"])
        for reason in row["reasons"]:
            if len(self.samples.setdefault(reason, [])) < SAMPLES:
                self.samples[reason].append(row[PLACE])

    def counted(self, counts: Sequence[ExpectationCount]) -> None:
        before = self.expectations
        self.expectations = [a.plus(b) for a, b in zip(before, counts, strict=True)] if before else list(counts)


@dataclass
class _Verdicts:
    """What is wrong with which rows of one piece, by their number in it."""

    reasons: dict[int, list[str]]
    details: dict[int, str] = field(default_factory=dict)
    waived: dict[int, list[str]] = field(default_factory=dict)

    def add(self, number: int, reason: str, detail: str) -> None:
        self.reasons[number], self.details[number] = [reason], detail

    def add_pairs(self, found: Mapping[int, tuple[str, str]], waived: Mapping[int, list[str]]) -> None:
        """What the validation of pairs says of rows that are not in `reasons`."""
        for number, (reason, detail) in found.items():
            self.add(number, reason, detail)
        for number, reasons in waived.items():
            self.waived.setdefault(number, []).extend(reasons)


class Sieve:
    """One delivery on its way into clean and quarantined rows; the files of both grow in `folder`.

    Args:
        prefix: Where the files will lie in the object store.
        known: Clean rows of earlier deliveries; it is looked at and not added to.
        progress: Told after every piece how many rows were checked.
        earlier: Checks of earlier deliveries that passed, oldest first.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        spec: BaseFamilySpec,
        suite: ModuleType,
        delivery: IngestedDelivery,
        known: Known,
        waivers: Waivers,
        folder: Path,
        progress: Callable[[int], None],
        earlier: Sequence[DeliveryCheck],
    ) -> None:
        self._store, self._prefix, self._spec, self._suite = store, prefix, spec, suite
        self._delivery, self._waivers, self._folder, self._progress = delivery, waivers, folder, progress
        self._earlier = earlier
        self._known = Known(known)  # earlier deliveries, and every clean row of this one so far
        self._whole = Known(known)  # earlier deliveries, and the tables of this one that are done
        self._quarantine = ParquetSink(folder / "quarantine.parquet", QUARANTINE_SCHEMA)
        self._keys = ParquetSink(folder / "keys.parquet", _KEYS_SCHEMA)
        self._rows = 0

    def __enter__(self) -> Sieve:
        return self

    def __exit__(self, *_: object) -> None:
        with self._quarantine, self._keys:
            pass

    def divide(self, table: str, schema: pa.Schema) -> TableCheck:
        """Writes the clean rows of a table into a file of its own, the others into the quarantine."""
        tally, pieces = _Tally(), stream_batch(self._store, self._delivery.batch_key, table)
        raw, preparation = schema, Preparation(self._spec, table, schema)
        schema = preparation.schema
        pairs = self._pair_gate(table)
        clean_schema = schema.append(pa.field(DIGEST, pa.string()))
        with SortedMarks() as content, ParquetSink(self._folder / f"{table}.parquet", clean_schema) as clean:
            for delivered in _at_least_one(pieces, raw_schema(raw)):
                prepared = preparation.apply(delivered)
                piece = prepared.rows
                verdicts = self._judge(table, schema, piece, tally)
                for number, (step, why) in prepared.unfit.items():
                    verdicts.add(number, step, why)
                if pairs:
                    verdicts.add_pairs(*pairs.judge(piece, verdicts.reasons))
                marks = self._keep(table, schema, piece, verdicts, tally, clean)
                content.add(marks)
                self._to_quarantine(tally, _quarantined(table, self._key(table), raw, delivered, verdicts, preparation))
                self._rows += piece.num_rows
                self._progress(self._rows)
            self._whole.adopt(self._known, table)
            for problems in stream_batch(self._store, self._delivery.batch_key, PROBLEMS):
                found = problems.filter(pc.equal(problems.column("table"), table)).to_pylist()
                self._to_quarantine(tally, [_unparsed(problem) for problem in found])
            return TableCheck(
                rows_in=tally.rows_in,
                rows_clean=tally.rows_clean,
                rows_duplicate=tally.rows_duplicate,
                min_valid_rate=self._min_valid_rate(table),
                reasons=dict(sorted(tally.reasons.items())),
                samples=tally.samples,
                clean_key=f"{self._prefix}/{table}.parquet",
                content=content_digest(describe_schema(schema), {"": content}),
                expectations=tally.expectations,
                waived=dict(sorted(tally.waived.items())),
                prepared=dict(sorted(preparation.changed.items())),
                pairs=pairs.report() if pairs else None,
            )

    def _pair_gate(self, table: str) -> PairGate | None:
        """What judges question and answer pairs, for the table that has them; the table of passages comes before."""
        qa = self._spec.data.qa
        if qa is None or qa.table != table:
            return None
        return PairGate(
            self._store,
            qa,
            self._key(table),
            self._key(qa.passages),
            self._folder / f"{qa.passages}.parquet",
            self._delivery.batch_key,
            self._earlier,
            self._waivers,
        )

    def _judge(self, table: str, schema: pa.Schema, piece: pa.RecordBatch, tally: _Tally) -> _Verdicts:
        """What the suite, the waivers and the schema say of the rows of a piece."""
        from include.expectations.gate import run_suite

        prepared = self._suite.prepare(table, pa.Table.from_batches([piece]), self._whole)
        outcome = run_suite(self._spec.data.suite, self._suite.suite(table), prepared)
        tally.counted(outcome.counts)
        verdicts = _Verdicts({})
        for number, found in outcome.reasons.items():
            reasons, waived = self._waivers.split(table, piece.column(PLACE)[number].as_py(), found)
            if reasons:
                verdicts.reasons[number] = reasons
            else:
                verdicts.waived[number] = waived
        for name, numbers in _missing(piece, schema).items():
            for number in numbers:
                if number not in verdicts.reasons:
                    verdicts.add(number, MISSING_VALUE, f"{name} has no value")
        return verdicts

    def _keep(
        self,
        table: str,
        schema: pa.Schema,
        piece: pa.RecordBatch,
        verdicts: _Verdicts,
        tally: _Tally,
        clean: ParquetSink,
    ) -> Marks:
        """Writes the rows that passed and repeat nothing; returns their marks, and adds to `verdicts` the others."""
        key, bad = self._key(table), np.fromiter(verdicts.reasons, np.int64, len(verdicts.reasons))
        passed = np.setdiff1d(np.arange(piece.num_rows), bad)
        rows = piece.take(pa.array(passed)) if len(bad) else piece
        keys = key_marks(rows.column(key))
        contents = row_marks(rows, [name for name in schema.names if name != key])
        same_key, same_content = _repeats(self._known, table, keys, contents)
        for number in np.flatnonzero(same_key).tolist():
            value = rows.column(key)[number].as_py()
            verdicts.add(int(passed[number]), DUPLICATE, f"{key} {value!r} is there already")
        for number in np.flatnonzero(same_content).tolist():
            verdicts.add(int(passed[number]), DUPLICATE, f"the same values under another {key} are there already")
        keep = ~(same_key | same_content)
        rows, keys, contents = rows.filter(pa.array(keep)), keys[keep], contents[keep]
        marks = row_marks(rows, schema.names)
        columns = [*(rows.column(name) for name in schema.names), digest_column(marks)]
        clean.write(pa.RecordBatch.from_arrays(columns, schema=clean.schema))
        columns = [pa.repeat(table, len(keys)), _binary(keys), _binary(contents)]
        self._keys.write(pa.RecordBatch.from_arrays(columns, schema=_KEYS_SCHEMA))
        self._known.add(table, keys, contents)
        tally.clean(len(keys))
        for number, waived in verdicts.waived.items():
            if number not in verdicts.reasons:
                tally.waived.update(waived)
        return marks

    def _to_quarantine(self, tally: _Tally, rows: Sequence[Mapping[str, Any]]) -> None:
        self._quarantine.write_rows(rows)
        for row in rows:
            tally.quarantined(row)

    def _key(self, table: str) -> str:
        return self._spec.data.tables[table].key

    def _min_valid_rate(self, table: str) -> float:
        """A release is a few rows that were in quarantine before: that some fail again is no reason to stop a run."""
        return 0.0 if is_release(self._delivery) else self._spec.data.tables[table].min_valid_rate


def _at_least_one(pieces: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """`pieces`, or an empty one: the expectations of an empty table are listed with counts of 0."""
    rest = iter(pieces)
    yield next(rest, pa.RecordBatch.from_pylist([], schema=schema))
    yield from rest


def _missing(piece: pa.RecordBatch, schema: pa.Schema) -> dict[str, list[int]]:
    """Column that must have a value -> rows without one: no dataset table could hold them."""
    return {
        name: np.flatnonzero(piece.column(name).is_null().to_numpy(zero_copy_only=False)).tolist()
        for name in schema.names
        if not schema.field(name).nullable and piece.column(name).null_count
    }


def _repeats(known: Known, table: str, keys: Marks, contents: Marks) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows have a key that was there before, and which others have values that were.

    A row that is a repetition itself brings nothing: what it repeats only in part may come again and be clean.
    """
    same_key = known.has_marks(table, keys)
    same_content = ~same_key & known.has_contents(table, contents)
    new = np.flatnonzero(~same_key)
    seen_keys: set[bytes] = set()
    seen_contents: set[bytes] = set()
    for number in new[repeated(keys[new]) | repeated(contents[new])]:
        key, content = keys[number], contents[number]
        if key in seen_keys:
            same_key[number], same_content[number] = True, False
        elif same_content[number] or content in seen_contents:
            same_content[number] = True
        else:
            seen_keys.add(key)
            seen_contents.add(content)
    return same_key, same_content


def _quarantined(
    table: str, key: str, schema: pa.Schema, piece: pa.RecordBatch, verdicts: _Verdicts, preparation: Preparation
) -> list[dict[str, Any]]:
    """The rows of the quarantine, in the order of `piece`: as they came, but for what must not be seen."""
    numbers = sorted(verdicts.reasons)
    rows = piece.take(pa.array(numbers, pa.int64()))
    records = [preparation.concealed(record) for record in rows.select(schema.names).to_pylist()]
    places = rows.column(PLACE).to_pylist()
    return [
        {
            "table": table,
            "key": None if record[key] is None else str(record[key]),
            PLACE: place,
            "reasons": verdicts.reasons[number],
            "detail": verdicts.details.get(number, ""),
            "values": row_json(_masked(record) if PERSONAL_DATA in verdicts.reasons[number] else record),
            "parsed": True,
        }
        for number, record, place in zip(numbers, records, places, strict=True)
    ]


def _unparsed(problem: Mapping[str, str]) -> dict[str, Any]:
    return {
        "table": problem["table"],
        "key": None,
        PLACE: problem[PLACE],
        "reasons": [problem["problem"]],
        "detail": mask_personal_data(problem["detail"]),
        "values": mask_personal_data(problem["raw"]),
        "parsed": False,
    }


def _masked(value: Any) -> Any:
    """`value` with personal data masked in every text of it."""
    if isinstance(value, str):
        return mask_personal_data(value)
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return {name: _masked(item) for name, item in value.items()} if isinstance(value, dict) else value


def _binary(marks: Marks) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(_MARK, len(marks), [None, pa.py_buffer(marks.tobytes())])
