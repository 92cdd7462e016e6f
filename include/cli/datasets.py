"""`windtunnel data versions` and `data diff`: which dataset versions there are, and what differs between two."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output, show

if TYPE_CHECKING:
    from include.data.diff import Diff
    from include.data.distances import ColumnDistance
    from include.lineage.records import Dataset, Records

_SLICES = 12


def versions(arguments: argparse.Namespace, out: Output) -> int:
    """Published dataset versions, the newest first, with why each got its number and who was trained on it."""
    from include.data.recalls import active_recalls, touches
    from include.lineage.records import read_records
    from include.release.ledger import Ledger
    from include.store.database import open_database
    from include.store.objects import open_store

    family, settings = chosen_family(arguments.family), live_settings()
    records, store = read_records(settings, family), open_store(settings.store_url)
    recalls = [recall for _, recall in active_recalls(Ledger(open_database(settings.database_url)), family)]
    found = []
    for number, dataset in enumerate(records.datasets):
        before = records.datasets[number - 1] if number else None
        held = [recall.words() for recall in recalls if touches(store, recall, dataset.manifest)]
        found.append(_version(records, dataset, before, held))
    found.reverse()
    if out.as_json:
        out.document(found)
        return 0
    rows = [
        (
            entry["version"],
            f"{entry['published_at']:%Y-%m-%d %H:%M}",
            ", ".join(f"{name} {count}" for name, count in entry["rows"].items()),
            "" if entry["growth"] is None else f"{entry['growth']:+.1%}",
            len(entry["deliveries"]),
            f"{entry['change']['level']}: {entry['change']['reason']}"
            + (f"\nRECALLED: {'; '.join(entry['recalled'])}" if entry["recalled"] else ""),
            ", ".join(entry["models"]),
            entry["digest"][:12],
        )
        for entry in found
    ]
    columns = ["version", "published", "rows", "growth", "deliveries", "change", "models", "digest"]
    out.table(columns, rows, empty=f"{family} has no dataset version yet")
    return 0


def _version(records: Records, dataset: Dataset, before: Dataset | None, recalled: list[str]) -> dict[str, Any]:
    manifest = dataset.manifest
    total = sum(table.rows for table in manifest.tables.values())
    earlier = sum(table.rows for table in before.manifest.tables.values()) if before else 0
    return {
        "published_at": dataset.entry.published_at,
        **manifest.model_dump(mode="json"),
        "rows": {name: table.rows for name, table in manifest.tables.items()},
        "growth": (total - earlier) / earlier if earlier else None,
        "models": [model.version for model in records.models if model.dataset_version == manifest.version],
        "recalled": recalled,
    }


def diff(arguments: argparse.Namespace, out: Output) -> int:
    """Schema, rows, distributions and slices of two versions beside each other."""
    from include.data.diff import diff_versions
    from include.families.contract import load_data_code
    from include.spec import load_any_family

    family = chosen_family(arguments.family)
    slices = load_data_code(load_any_family(family).code).slices()
    found = diff_versions(live_settings(), family, arguments.before, arguments.after, slices)
    if out.as_json:
        document = found.model_dump(mode="json")
        out.document({**document, "schema": document.pop("schema_")})
        return 0
    _show(found, out)
    return 0


def _show(found: Diff, out: Output) -> None:
    out.line(f"{found.family} data {found.before} -> {found.after}{': the same content' if found.same else ''}", "bold")
    for sign, side in (("+", found.schema_.added), ("-", found.schema_.removed)):
        for table, columns in side.items():
            out.line(f"schema {sign} {table}: {', '.join(columns)}")
    if found.split[0] != found.split[1]:
        out.line(f"split {found.split[0]} -> {found.split[1]}")
    out.line()
    rows = [
        (name, table.before, table.after, table.added, table.removed, table.changed, _samples(table.samples))
        for name, table in found.rows.items()
    ]
    out.table(["table", "rows before", "after", "added", "removed", "changed", "such as"], rows)
    out.line()
    cells = [
        _column(table, name, column) for table, columns in found.columns.items() for name, column in columns.items()
    ]
    headings = ["table", "column", "kind", "distance", "measure", "length", "psi", "empty", "before", "after"]
    out.table(headings, sorted(cells, key=lambda cell: -(cell[3] or 0.0)))
    moved = sorted(
        (entry for entry in found.slices if entry.before != entry.after), key=lambda e: -abs(e.after - e.before)
    )
    if moved:
        out.line()
        out.table(["slice", "value", "before", "after"], [tuple(vars(entry).values()) for entry in moved[:_SLICES]])
        if len(moved) > _SLICES:
            out.line(f"... and {len(moved) - _SLICES} more (--json has all)")


def _samples(samples: dict[str, list[str]]) -> str:
    signs = {"added": "+", "removed": "-", "changed": "~"}
    return ", ".join(f"{signs[kind]}{key}" for kind, keys in samples.items() for key in keys[:2])


def _column(table: str, name: str, column: ColumnDistance) -> tuple[Any, ...]:
    empty = " -> ".join(f"{share:.1%}" for share in column.empty) if any(column.empty) else ""
    numbers = (column.distance, column.measure, column.size_distance, column.psi)
    rounded = tuple(round(value, 4) if isinstance(value, float) else value for value in numbers)
    return (table, name, column.kind.value, *rounded, empty, show(column.before), show(column.after))
