"""The table that ingest is measured on: orders as JSON lines, made by a seed, with the faults of a real feed.

About one row in forty is faulty: broken JSON, bytes that are not UTF-8, a wrong type, a missing value, a repeated key,
the same order under another key, a negative amount, an unknown country, an e-mail address in a text. The texts hold
umlauts, emoji and right-to-left script. A file can be made without the lines that are no JSON or of a wrong type, for
readers that stop at them; all other lines are the same.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.data.declared import table_records
from include.families.contract import Delivery, RawRecord
from include.spec.models import DataFamilySpec

DAY = date(2026, 10, 12)
COUNTRIES = ("AE", "BR", "DE", "EG", "FR", "GB", "IN", "JP", "KE", "MX", "NO", "US")
SCHEMA = pa.schema(
    [
        pa.field("order_id", pa.string(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("amount", pa.float64(), nullable=False),
        pa.field("quantity", pa.int64(), nullable=False),
        pa.field("ordered_on", pa.date32(), nullable=False),
        pa.field("note", pa.string()),
    ]
)
_WORDS = (
    "gift",
    "für Anna",
    "🚚 schnell",
    "مرحبا",
    "two boxes",
    "leave at the door",
    "Größe M",
    "再来一份",
    "urgent",
    "blue",
)
_EVERY = 40  # rows between two faults


class Orders:
    """The data side of a family with this one table; see `include.families.contract.DataCode`."""

    def schemas(self) -> Mapping[str, pa.Schema]:
        return {"orders": SCHEMA}

    def deliveries(self, source: Path, reader: str) -> Sequence[Delivery]:
        return [Delivery(path.stem, DAY, (path,)) for path in sorted(source.glob("*.jsonl"))]

    def records(self, delivery: Delivery, max_row_bytes: int) -> Iterator[RawRecord]:
        (path,) = delivery.files
        return table_records(path, path.name, "orders", SCHEMA, max_row_bytes=max_row_bytes)

    def slices(self) -> Mapping[str, str]:
        return {"country": "country"}


def orders_spec() -> DataFamilySpec:
    """The family's spec."""
    return DataFamilySpec.model_validate(
        {
            "family": "orders",
            "title": "Orders",
            "description": "What ingest is measured on.",
            "owner": {"team": "benchmarks"},
            "code": "benchmarks.orders:Orders",
            "data": {"suite": "orders", "tables": {"orders": {"key": "order_id", "min_valid_rate": 0.9}}},
            "split": {"table": "orders", "by": "order_id", "train": 0.8, "validation": 0.1, "test": 0.1},
        }
    )


def write_orders(path: Path, rows: int, *, unreadable: bool = True) -> int:
    """Writes `rows` lines, or those of them that any reader takes; returns how many were written."""
    dice, written = random.Random(7), 0
    recent: deque[dict[str, Any]] = deque(maxlen=300)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number in range(rows):
            row = _row(number, dice)
            line, readable = _line(number, row, recent[0] if recent else row)
            recent.append(row)
            if readable or unreadable:
                file.write(line + b"\n")
                written += 1
    return written


def _line(number: int, row: dict[str, Any], earlier: dict[str, Any]) -> tuple[bytes, bool]:
    """A line, and whether every reader takes it."""
    kind, place = divmod(number % (_EVERY * 10), _EVERY)
    if place != _EVERY - 1:
        return json.dumps(row, ensure_ascii=False).encode(), True
    changes: list[dict[str, object]] = [
        {"amount": -row["amount"]},
        {"country": "XX"},
        {"order_id": earlier["order_id"]},
        {**earlier, "order_id": row["order_id"]},
        {"note": "write to someone@example.com"},
        {"quantity": 100_000},
        {"note": " "},
    ]
    if kind < len(changes):
        return json.dumps({**row, **changes[kind]}, ensure_ascii=False).encode(), True
    text = json.dumps(row, ensure_ascii=False).encode()
    return (text[:-9], text.replace(b'"customer": "', b'"customer": "\xff\xfe'), b'{"order_id": 7}')[kind - 7], False


def _row(number: int, dice: random.Random) -> dict[str, Any]:
    return {
        "order_id": f"o-{number:09d}",
        "customer": f"customer {dice.randrange(500_000)}",
        "country": dice.choice(COUNTRIES),
        "amount": round(dice.random() * 900 + 1, 2),
        "quantity": dice.randrange(1, 20),
        "ordered_on": (DAY - timedelta(days=dice.randrange(700))).isoformat(),
        "note": f"{dice.choice(_WORDS)} {dice.choice(_WORDS)} {dice.randrange(10_000)}"
        if dice.random() < 0.9
        else None,
    }
