"""The manifest of a dataset version: what is in it, where that came from, and what was left out.

It says nothing of when and by whom (the catalogue and the ledger do): the same content has the same manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from include.data.leakage import LeakageReport
from include.data.prepare.augment import BY, FROM, Augmented
from include.data.provenance import Transformation
from include.data.records import CheckedDelivery, Totals
from include.data.versioning import Level, Shape
from include.spec.splits import SplitKind
from include.steps.fingerprint import fingerprint

SPLIT = "split"  # the column that the split table gets
#: Columns that the platform adds to those of the family.
PLATFORM = ("source", "delivery", "delivered_on", "digest", SPLIT)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableManifest(_Part):
    """One table of a dataset version.

    Attributes:
        location: Object key of the Delta table.
        delta_version: The version of it that holds these rows. Rows of deliveries that the manifest does not list are
            none of this version.
        key: Column that identifies a row.
        rows: Number of rows.
        splits: Mark (see `include.data.splits`) -> rows; empty for a table that is not split.
        augmented: The changed copies of training rows; None where the spec asks for none. `rows` does not count them.
        marks_key: Object key of the rows whose mark is not the one stored with them; None where there are none.
        columns: Columns with their types.
        digest: sha256 (hex) of the rows, whatever their order.
    """

    location: str
    delta_version: int
    key: str
    rows: int
    splits: dict[str, int]
    columns: list[str]
    digest: str
    marks_key: str | None = None
    augmented: Augmented | None = None


class DivisionManifest(_Part):
    """How a reader finds the training, validation and test examples.

    Attributes:
        cuts: Of a time series: where each period after the first, and the test rows, begin.
        leakage: What the comparison of texts found; None where none was asked for.
    """

    kind: SplitKind = SplitKind.HOLD_OUT
    folds: int = 1
    cuts: list[str] = []
    leakage: LeakageReport | None = None


class ChangeManifest(_Part):
    """What made the version's number."""

    level: Level
    reason: str


class Manifest(_Part):
    """A dataset version, complete.

    Attributes:
        digest: sha256 (hex) over the digests of all tables: equal content, equal digest.
        source: `declared`, or the id of the place that a run named instead of the declared sources.
        sources: Declared source -> its role, of those that brought something.
        split: How examples are divided, in words.
        division: The same for machines, with what was found to be nearly the same.
        parent: The version before this one; None for the first.
        domains: Slice -> its domains, known up to and with this version (see `include.data.versioning`).
        transformations: What its rows went through, in that order.
        software: Library -> version that made it.
        deliveries: Every delivery in it, with what came in, what passed and what did not, and by which check.
    """

    schema_version: int = 1
    family: str
    version: str
    digest: str
    source: str
    sources: dict[str, str] = {}
    split: str
    division: DivisionManifest = DivisionManifest()
    suite: str
    code_version: str
    parent: str | None
    change: ChangeManifest
    tables: dict[str, TableManifest]
    deliveries: list[CheckedDelivery]
    totals: Totals
    domains: dict[str, list[str]] = {}
    transformations: list[Transformation] = []
    software: dict[str, str] = {}

    @property
    def shape(self) -> Shape:
        """What the version of the next one is computed from."""
        return shape_of(self.source, self.tables, self.split, self.domains)


def shape_of(
    source: str, tables: Mapping[str, TableManifest], split: str, domains: Mapping[str, Sequence[str]]
) -> Shape:
    """What the version rule looks at."""
    return Shape(
        source=source,
        schemas={name: (*table.columns, *_of_copies(table)) for name, table in tables.items()},
        rows={name: table.rows for name, table in tables.items()},
        split=split,
        domains={name: frozenset(values) for name, values in domains.items()},
    )


def _of_copies(table: TableManifest) -> tuple[str, ...]:
    """The columns that readers get beside the stored ones, where training rows have changed copies."""
    return tuple(f"{name}: string" for name in (FROM, BY)) if table.augmented else ()


def dataset_digest(family: str, tables: dict[str, TableManifest]) -> str:
    """See `Manifest.digest`."""
    return fingerprint(family=family, tables={name: table.digest for name, table in tables.items()})


def table_location(family: str, origin: str, table: str) -> str:
    """Object key of a Delta table; see `Manifest.source`."""
    return f"datasets/{family}/{origin}/{table}"


def manifest_key(family: str, version: str, digest: str) -> str:
    """Where a manifest lies. The digest is part of the name: rivals for one version do not overwrite each other."""
    return f"datasets/{family}/{version}/manifest-{digest[:12]}.json"
