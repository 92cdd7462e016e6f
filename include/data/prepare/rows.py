"""Runs the steps of a table over its rows, piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from include.data.prepare.steps import (
    CONCEALING,
    VERSIONS,
    Change,
    Unfit,
    change_of,
    new_fields,
    rewritten_columns,
    used_columns,
)
from include.errors import UserError
from include.spec.models import BaseFamilySpec
from include.spec.prepare import AUGMENTATIONS, RowStep


@dataclass(frozen=True)
class PreparedPiece:
    """A piece of a table after the steps.

    Attributes:
        rows: As many rows as went in, in their order; one that a step could not handle is as it came.
        unfit: Number of such a row -> name of the step, and why.
    """

    rows: pa.RecordBatch
    unfit: Mapping[int, tuple[str, str]]


class Preparation:
    """The steps of one table.

    Args:
        schema: The table's schema as the family's code gives it.

    Raises:
        UserError: A step names a column that is not there, adds one that is, or cannot be made.
    """

    def __init__(self, spec: BaseFamilySpec, table: str, schema: pa.Schema) -> None:
        self._steps = row_steps(spec, table)
        self.schema = prepared_schema(spec, table, schema)
        self._changes: list[tuple[str, Change]] = [(step.transform, change_of(step)) for step in self._steps]
        self.changed: Counter[str] = Counter()

    def concealed(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it came, with what the steps mask, pseudonymise or blank: nobody else may see that either."""
        for name, change in self._changes:
            if name in CONCEALING:
                row = {**row, **change(row)}
        return row

    def apply(self, piece: pa.RecordBatch) -> PreparedPiece:
        """The piece after all steps. Columns that the table's schema does not have stay as they are."""
        if not self._steps:
            return PreparedPiece(piece, {})
        rows, unfit = piece.to_pylist(), {}
        for number, row in enumerate(rows):
            made, changed = dict(row), []
            try:
                for name, change in self._changes:
                    changes = change(made)
                    if any(column not in made or made[column] != value for column, value in changes.items()):
                        changed.append(name)
                    made.update(changes)
            except Unfit as reason:
                unfit[number] = (name, str(reason))
                continue
            rows[number] = made
            self.changed.update(changed)
        extra = [field for field in piece.schema if field.name not in self.schema.names]
        wanted = pa.schema([*(field.with_nullable(True) for field in self.schema), *extra])
        return PreparedPiece(pa.RecordBatch.from_pylist(rows, wanted), unfit)


def row_steps(spec: BaseFamilySpec, table: str) -> list[RowStep]:
    """The steps of a table without augmentations, in their order."""
    return [step for step in spec.data.prepare if step.table == table and not isinstance(step, AUGMENTATIONS)]


def prepared_schema(spec: BaseFamilySpec, table: str, schema: pa.Schema) -> pa.Schema:
    """The schema of the table's clean rows. Raises `UserError`; see `Preparation`."""
    for step in row_steps(spec, table):
        where = f"data.prepare: {step.transform} of {table}"
        missing = [name for name in used_columns(step) if name not in schema.names]
        if missing:
            raise UserError(f"there is no column {missing[0]!r}", where=where, hint=f"it has {', '.join(schema.names)}")
        for name in rewritten_columns(step):
            field = schema.field(name)
            if step.transform == "blank":
                if not field.nullable:
                    raise UserError(f"{name!r} must have a value", where=where, hint="pseudonymise it instead")
            elif not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
                raise UserError(f"{name!r} holds {field.type}, and no text", where=where, hint="name a text column")
        added = new_fields(step)
        taken = [field.name for field in added if field.name in schema.names]
        repeated = [name for name, count in Counter(field.name for field in added).items() if count > 1]
        if taken or repeated:
            raise UserError(f"there would be two columns {[*taken, *repeated][0]!r}", where=where, hint="rename one")
        schema = pa.schema([*schema, *added])
    return schema


def describe_steps(spec: BaseFamilySpec) -> list[tuple[str, dict[str, Any]]]:
    """Every row step with the version of its code and its parameters, as the manifest has it."""
    steps = [step for table in spec.data.tables for step in row_steps(spec, table)]
    return [
        (step.transform, {"version": VERSIONS[step.transform], **step.model_dump(mode="json", exclude={"transform"})})
        for step in steps
    ]
