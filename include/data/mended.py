"""The file of quarantined rows that a person edits: one JSON object a line, with the row's `values`.

`export_rows` writes it; `read_mended` reads it back. A row that could not be parsed has `values` null and its start
under `raw`: whoever mends it writes the values.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from include.data.quarantine import QuarantinedRow
from include.errors import UserError
from include.steps.fingerprint import canonical_json

_HINT = "a line is a row that `windtunnel quarantine show --export` wrote, with other `values`"


@dataclass(frozen=True)
class Mended:
    """One line of the file.

    Attributes:
        where: File and line.
        values: Column -> value, as JSON has it.
    """

    where: str
    table: str
    place: str
    values: Mapping[str, Any]

    def typed(self, schema: pa.Schema) -> dict[str, Any]:
        """The values in the table's types.

        Raises:
            UserError: A column is missing, unknown, or of another type.
        """
        missing, unknown = set(schema.names) - set(self.values), set(self.values) - set(schema.names)
        if missing or unknown:
            parts = [f"no {name!r}" for name in sorted(missing)] + [f"unknown {name!r}" for name in sorted(unknown)]
            raise UserError(f"wrong columns: {', '.join(parts)}", where=self.where, hint=f"columns: {schema.names}")
        nulls = [field.name for field in schema if self.values[field.name] is None and not field.nullable]
        if nulls:
            raise UserError(f"null is not allowed in {', '.join(nulls)}", where=self.where, hint="give a value")
        line = json.dumps(dict(self.values)).encode()
        nullable = pa.schema([field.with_nullable(True) for field in schema])
        options = pa.json.ParseOptions(explicit_schema=nullable, unexpected_field_behavior="error")
        try:
            table = pa.json.read_json(io.BytesIO(line), parse_options=options)
        except pa.ArrowInvalid as error:
            raise UserError(f"wrong type: {error}", where=self.where, hint=f"types: {schema}") from None
        row: dict[str, Any] = table.select(schema.names).to_pylist()[0]
        return row

    def same_as(self, quarantined: str) -> bool:
        """Whether the values are those that the quarantine shows."""
        try:
            return canonical_json(dict(self.values)) == canonical_json(json.loads(quarantined))
        except ValueError:  # the row could not be parsed; what a person wrote is something else
            return False


def export_rows(rows: Iterable[QuarantinedRow], path: Path) -> int:
    """Writes the rows for mending; returns how many.

    Raises:
        UserError: The file is there already, or cannot be written.
    """
    written = 0
    try:
        with path.open("x", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(_exported(row), ensure_ascii=False) + "\n")
                written += 1
    except FileExistsError:
        raise UserError("the file is there already", where=str(path), hint="name another one") from None
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(path), hint="name another file") from error
    return written


def read_mended(path: Path) -> list[Mended]:
    """The rows of an edited file; those whose `values` are still null are left out.

    Raises:
        UserError: The file cannot be read, a line is no such row, or a row is there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold other line separators
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path), hint="give a UTF-8 file of JSON lines") from error
    found: dict[tuple[str, str], Mended] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        mended = _parse(line, f"{path}:{number}")
        if mended is None:
            continue
        if (mended.table, mended.place) in found:
            raise UserError("the row is in the file twice", where=mended.where, hint="keep one of them")
        found[mended.table, mended.place] = mended
    return list(found.values())


def _exported(row: QuarantinedRow) -> dict[str, Any]:
    shared = {"table": row.table, "place": row.place, "reasons": row.reasons, "detail": row.detail}
    if row.parsed:
        return {**shared, "values": json.loads(row.values)}
    return {**shared, "values": None, "raw": row.values}


def _parse(line: str, where: str) -> Mended | None:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=where, hint=_HINT) from None
    if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in ("table", "place")):
        raise UserError("not a row of a quarantine", where=where, hint=_HINT)
    values = record.get("values")
    if values is None:
        return None
    if not isinstance(values, dict):
        raise UserError("`values` must be an object", where=where, hint=_HINT)
    return Mended(where, record["table"], record["place"], values)
