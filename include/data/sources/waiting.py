"""How much of the sources has not been ingested yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from include.data.catalogue import Catalogue
from include.data.sources.place import Window
from include.data.sources.reading import open_place, reading_mark, records_of
from include.data.sources.selection import SourceRef, select_sources
from include.families.contract import load_data_code
from include.settings import Settings
from include.spec.models import BaseFamilySpec
from include.store.database import open_database


def count_new_rows(
    settings: Settings,
    spec: BaseFamilySpec,
    source: str | None,
    known_deliveries: Collection[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Records that wait at the sources in deliveries that were not ingested yet; only those deliveries are read.

    Args:
        source: One of the declared sources, or another place instead of them; None takes all that are declared.
        environ: Where connections are found; None takes the process's environment.
        known_deliveries: Names of the deliveries that do not count; None takes those of the catalogue.

    Raises:
        DataError: A source cannot be read.
        SourceError: It cannot be reached.
    """
    catalogue = Catalogue(open_database(settings.database_url))
    refs = select_sources(spec, source).looked_at
    return sum(_count(spec, ref, catalogue, known_deliveries, environ) for ref in refs)


def _count(
    spec: BaseFamilySpec,
    ref: SourceRef,
    catalogue: Catalogue,
    known: Collection[str] | None,
    environ: Mapping[str, str] | None,
) -> int:
    code, count = load_data_code(spec.code), 0
    tables = code.schemas()
    names = catalogue.names(spec.family, ref.id) if known is None else known
    tags = ref.own_names(catalogue.tags(spec.family, ref.id, reading_mark(ref, tables)))
    watermark = catalogue.watermark(spec.family, ref.id)
    with open_place(ref, code, spec.data.tables, environ) as place:
        for offer in place.offers(Window(None, None, datetime.now(UTC).date(), watermark, tags)):
            if ref.delivery_name(offer.name) not in names:
                with place.fetch(offer) as delivery:
                    count += sum(1 for _ in records_of(ref, code, delivery, tables, spec.data.max_row_bytes))
    return count
