"""The table that ingest is measured on: the same for everybody, with every fault, and readable where it must be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from benchmarks.orders import Orders, write_orders

ROWS = 2_000


def test_the_same_file_is_made_every_time(tmp_path: Path) -> None:
    assert write_orders(tmp_path / "a" / "orders.jsonl", ROWS) == ROWS
    write_orders(tmp_path / "b" / "orders.jsonl", ROWS)
    assert (tmp_path / "a" / "orders.jsonl").read_bytes() == (tmp_path / "b" / "orders.jsonl").read_bytes()


def test_records_are_read_with_their_problems(tmp_path: Path) -> None:
    write_orders(tmp_path / "orders.jsonl", ROWS)
    (delivery,) = Orders().deliveries(tmp_path, "auto")
    records = list(Orders().records(delivery, 1_000_000))
    assert len(records) == ROWS
    problems = Counter(record.problem for record in records if record.problem)
    assert set(problems) == {"malformed_json", "not_utf8", "wrong_type"} and problems.total() == 15
    rows = [record.values for record in records if not record.problem]
    assert len({row["order_id"] for row in rows}) == len(rows) - 5  # repeated keys
    others = [tuple(value for name, value in row.items() if name != "order_id") for row in rows]
    assert len(set(others)) == len(rows) - 5  # the same order under another key


def test_any_reader_takes_the_readable_file(tmp_path: Path) -> None:
    written = write_orders(tmp_path / "orders.jsonl", ROWS, unreadable=False)
    lines = (tmp_path / "orders.jsonl").read_text(encoding="utf-8").splitlines()
    assert written == len(lines) == ROWS - 15
    assert all(set(json.loads(line)) == set(Orders().schemas()["orders"].names) for line in lines)
