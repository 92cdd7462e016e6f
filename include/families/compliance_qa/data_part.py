"""The data side of the family: which layouts it reads, and the tables they become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from include.errors import DataError, UserError
from include.families.compliance_qa import dated, obliqa, policyqa
from include.families.compliance_qa.schema import SCHEMAS
from include.families.contract import Delivery, RawRecord

AUTO = "auto"
READERS: Mapping[str, ModuleType] = {obliqa.READER: obliqa, dated.READER: dated, policyqa.READER: policyqa}


class DataPart:
    """Schemas, deliveries and records; see `include.families.contract.Family`."""

    def schemas(self) -> Mapping[str, pa.Schema]:
        return SCHEMAS

    def deliveries(self, source: Path, reader: str) -> Sequence[Delivery]:
        if not source.is_dir():
            what = "is a file" if source.exists() else "does not exist"
            raise DataError(f"the source {what}", where=str(source), hint="give the folder that holds the deliveries")
        try:
            found: list[Delivery] = _reader(reader, source).deliveries(source)
        except OSError as error:
            raise DataError(
                f"the source cannot be read: {error.strerror}", where=str(source), hint="check its permissions"
            ) from error
        if not found:
            raise _no_deliveries(source)
        return sorted(found, key=lambda delivery: (delivery.delivered_on, delivery.name))

    def records(self, delivery: Delivery, max_row_bytes: int) -> Iterator[RawRecord]:
        records: Iterator[RawRecord] = READERS[delivery.reader].records(delivery, max_row_bytes)
        return records

    def slices(self) -> Mapping[str, str]:
        return {"document_id": "document_id"}


def _reader(name: str, source: Path) -> ModuleType:
    """The module that reads `source`: the named one, or with `auto` the one that recognises the layout."""
    if name != AUTO:
        if name not in READERS:
            known = ", ".join([AUTO, *READERS])
            raise UserError(f"there is no reader {name!r}", where="data.reader", hint=f"use one of {known}")
        return READERS[name]
    for module in READERS.values():
        if module.matches(source):
            return module
    raise _no_deliveries(source)


def _no_deliveries(source: Path) -> DataError:
    state = "holds no delivery" if any(source.iterdir()) else "is empty"
    return DataError(
        f"the source {state}",
        where=str(source),
        hint="it needs folders named YYYY-MM-DD with documents/*.json and questions.jsonl, ObliQA_*.json with "
        f"{obliqa.DOCUMENTS}/*.json, or {' or '.join(policyqa.FILES)} in the format of SQuAD",
    )
