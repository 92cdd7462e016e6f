"""The code of a family whose sources are all declared in its spec: nothing but the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from include.errors import UserError
from include.families.contract import Delivery, RawRecord

if TYPE_CHECKING:
    import pyarrow as pa


class DeclaredData:
    """Satisfies `include.families.contract.DataCode`; a family sets the two class attributes.

    Attributes:
        SCHEMAS: See `DataCode.schemas`.
        SLICES: See `DataCode.slices`.
    """

    SCHEMAS: Mapping[str, pa.Schema] = {}
    SLICES: Mapping[str, str] = {}

    def schemas(self) -> Mapping[str, pa.Schema]:
        return self.SCHEMAS

    def slices(self) -> Mapping[str, str]:
        return self.SLICES

    def deliveries(self, source: Path, reader: str) -> Sequence[Delivery]:
        raise UserError(
            "the family has no reader of its own", where=str(source), hint="give the source a `table` in family.yaml"
        )

    def records(self, delivery: Delivery, max_row_bytes: int) -> Iterator[RawRecord]:
        raise UserError("the family has no reader of its own", hint="give the source a `table` in family.yaml")
