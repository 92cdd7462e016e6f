"""Dataset tables: Delta Lake on the local folder or on S3, written exactly once per delivery.

A table is partitioned by `delivery`. The content of a delivery is put with a Delta application transaction whose id
is the delivery and whose version is derived from the content: the same content put twice is there once, whoever puts
it and however often it is killed, and other content under the same name takes the place of the old. Old table
versions stay readable, so a published dataset version never changes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

from include.errors import WindtunnelError
from include.store.objects import ObjectStore

DELIVERY = "delivery"
ATTEMPTS = 40
#: A row group is held in memory until it is written; the library's own size of a million rows takes hundreds of MiB.
_WRITER = WriterProperties(max_row_group_size=65_536)


class DatasetError(WindtunnelError):
    """A dataset table cannot be read or written."""


class Rows(Protocol):
    """Rows that can be read more than once, such as a `pyarrow.Table`, or a file of any size."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def num_rows(self) -> int: ...

    def to_reader(self) -> pa.RecordBatchReader:
        """All rows, from the first, in batches."""
        ...


class DeltaTables:
    """The dataset tables of an object store, by object key.

    Every method may be called from several processes at once. All raise `DatasetError` when the store fails.

    Args:
        store: The object store that the tables lie in.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put_delivery(self, key: str, delivery: str, rows: Rows, content: str) -> bool:
        """Makes `rows` the rows of `delivery` in the table `key`. False where they are there already.

        Args:
            rows: All of its rows; the column `delivery` must hold `delivery` throughout.
            content: sha256 (hex) of the rows; equal digests are equal rows.
        """
        wanted = _transaction_version(content)
        properties = CommitProperties(app_transactions=[Transaction(delivery, wanted)])
        for attempt in range(ATTEMPTS):
            try:
                table = self._open_or_create(key, rows.schema)
                present = table.transaction_version(delivery)
                if present == wanted or (present is None and rows.num_rows == 0):
                    return False
                if present is None:
                    write_deltalake(
                        table,
                        rows.to_reader(),
                        mode="append",
                        schema_mode="merge",
                        commit_properties=properties,
                        writer_properties=_WRITER,
                    )
                else:
                    predicate = f"{DELIVERY} = '{delivery}'"
                    write_deltalake(
                        table,
                        rows.to_reader(),
                        mode="overwrite",
                        schema_mode="merge",
                        predicate=predicate,
                        commit_properties=properties,
                        writer_properties=_WRITER,
                    )
                return True
            except CommitFailedError:  # somebody else was faster: look again at what is there now
                time.sleep(random.uniform(0.0, 0.02 * (attempt + 1)))
            except SchemaMismatchError as error:
                hint = "a column may be added, but not change its type; give it another name"
                raise DatasetError(
                    f"the columns do not fit the table: {error}", where=self._store.uri(key), hint=hint
                ) from error
            except (DeltaError, OSError) as error:
                raise self._failed("written", key, error) from error
        raise DatasetError(
            f"the table was changed by others {ATTEMPTS} times in a row", where=self._store.uri(key), hint="try again"
        )

    def holds(self, key: str, delivery: str, content: str) -> bool:
        """Whether the table holds this content of the delivery."""
        try:
            return self._open(key).transaction_version(delivery) == _transaction_version(content)
        except TableNotFoundError:
            return False
        except (DeltaError, OSError) as error:
            raise self._failed("read", key, error) from error

    def version(self, key: str) -> int | None:
        """The newest version of the table; None where there is no table."""
        try:
            return int(self._open(key).version())
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._failed("read", key, error) from error

    def schema(self, key: str, version: int) -> pa.Schema:
        """Columns of one version of the table."""
        try:
            return self._open(key, version).to_pyarrow_dataset().schema
        except (DeltaError, OSError) as error:
            raise self._failed("read", key, error) from error

    def read(
        self, key: str, version: int, deliveries: Collection[str] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Rows of `deliveries` (None: all) in one version of the table, in no particular order."""
        names = None if columns is None else [*dict.fromkeys([*columns, DELIVERY])]
        filters = None if deliveries is None else [(DELIVERY, "in", sorted(deliveries))]
        try:
            table = self._open(key, version).to_pyarrow_table(columns=names, filters=filters)
        except (DeltaError, OSError) as error:
            raise self._failed("read", key, error) from error
        return table if columns is None else table.select(list(columns))

    def stream(
        self, key: str, version: int, deliveries: Collection[str], columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Like `read`, batch by batch; only `columns`."""
        try:
            dataset = self._open(key, version).to_pyarrow_dataset()
            wanted = pc.field(DELIVERY).isin(sorted(deliveries))
            yield from dataset.scanner(
                columns=list(columns), filter=wanted, batch_readahead=2, fragment_readahead=1
            ).to_batches()
        except (DeltaError, OSError) as error:
            raise self._failed("read", key, error) from error

    def _open(self, key: str, version: int | None = None) -> DeltaTable:
        return DeltaTable(self._store.uri(key), version=version, storage_options=self._options(key))

    def _open_or_create(self, key: str, schema: pa.Schema) -> DeltaTable:
        try:
            return self._open(key)
        except TableNotFoundError:
            DeltaTable.create(
                self._store.uri(key), schema, mode="ignore", partition_by=[DELIVERY], storage_options=self._options(key)
            )
            return self._open(key)

    def _options(self, key: str) -> dict[str, str]:
        """What the library does not take from boto3's variables by itself."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if urlsplit(self._store.uri(key)).scheme != "s3" or not endpoint:
            return {}
        return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower()}

    def _failed(self, verb: str, key: str, error: Exception) -> DatasetError:
        hint = "check that the store is reachable and writable and the disk is not full"
        return DatasetError(f"the dataset table cannot be {verb}: {error}", where=self._store.uri(key), hint=hint)


def _transaction_version(content: str) -> int:
    """A whole number that stands for the content: its digest's first 62 bits (Delta allows 63)."""
    return int(content[:16], 16) >> 2
