"""The `ingest` step: copies what the sources delivered before the end of the interval into raw batches.

Deliveries in `[since, until)` are this run's. Earlier ones are looked at as well, because a delivery may come late,
and because a question may cite a passage of an earlier delivery; they go along as the list under `earlier`. A
delivery that the catalogue knows with the same content is not read again, and not even fetched where the place tells
its content by a tag. Rows that people released from the quarantine of these sources come along as deliveries of the
day of their release (see `include.data.released`).

A delivery is late when it turns up after a newer one of its source was ingested. The source's rule says whether the
next version has it, or whether its rows go to quarantine.

Safe to repeat and to run beside itself: a batch is complete when its `batch.json` is there and counts when it stands
in the catalogue, once per content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from include.data.batches import batch_exists, rows_of_batch, write_batch
from include.data.catalogue import SEEN, Catalogue
from include.data.records import LATE, IngestedDelivery
from include.data.released import RELEASE, released_deliveries
from include.data.rows import row_json
from include.data.sources import (
    Offer,
    Place,
    SourceRef,
    Window,
    delivery_digest,
    open_place,
    reading_mark,
    records_of,
    select_sources,
)
from include.errors import DataError, UserError, WindtunnelError
from include.families.contract import DataCode, Delivery, RawRecord, load_data_code
from include.release.ledger import Ledger
from include.spec.sources import LateRule
from include.steps.entry import StepContext
from include.steps.fingerprint import fingerprint
from include.store.database import open_database


class SourceChanged(WindtunnelError):
    """A delivery was written to while it was read; trying again reads it whole."""


@dataclass(frozen=True)
class Interval:
    """Days `[since, until)`; None is open."""

    since: date | None
    until: date | None

    @classmethod
    def parse(cls, since: str | None, until: str | None) -> Interval:
        """From ISO dates or date-times. Raises `UserError`."""
        try:
            interval = cls(_day(since), _day(until))
        except (TypeError, ValueError) as error:
            raise UserError(f"not a date: {error}", where="since, until", hint="use YYYY-MM-DD") from None
        if interval.since and interval.until and interval.since > interval.until:
            raise UserError(f"since ({interval.since}) is after until ({interval.until})", where="since, until")
        return interval

    def ended_before(self, day: date) -> bool:
        """Whether `day` lies after the interval."""
        return self.until is not None and day >= self.until

    def starts_after(self, day: date) -> bool:
        """Whether `day` lies before the interval."""
        return self.since is not None and day < self.since


def ingest(context: StepContext) -> dict[str, Any]:
    """See the module.

    Inputs: `run`, `source` (a declared source, another place, or None for all declared sources), `since`, `until`.
    Outputs: `deliveries`, `rows_in`, `watermarks` (source -> newest day).
    """
    inputs, spec = context.document.inputs, context.document.spec
    interval = Interval.parse(inputs.get("since"), inputs.get("until"))
    engine = open_database(context.settings.database_url)
    catalogue = Catalogue(engine)
    selection = select_sources(spec, inputs.get("source"))
    code = load_data_code(spec.code)
    tables = code.schemas()
    if set(tables) != set(spec.data.tables):
        raise UserError(
            f"the family's code makes the tables {sorted(tables)}, the spec names {sorted(spec.data.tables)}",
            where="data.tables",
            hint="name the same tables in family.yaml",
        )
    found: list[tuple[date, int, IngestedDelivery]] = []
    watermarks: dict[str, str | None] = {}
    for number, ref in enumerate(selection.sources):
        reader = _Reader(context, catalogue, ref, code, tables, interval)
        deliveries = reader.deliveries() if ref in selection.looked_at else reader.ingested_before()
        found += [(delivery.delivered_on, number, delivery) for delivery in deliveries]
        watermark = catalogue.watermark(spec.family, ref.id)
        watermarks[ref.id] = watermark.isoformat() if watermark else None
    released = released_deliveries(Ledger(engine), spec.family, {ref.id for ref in selection.sources})
    for number, delivery in enumerate(released, len(selection.sources)):  # of two of a day, the first counts first
        if not interval.ended_before(delivery.delivered_on):
            _note_release(context, catalogue, delivery)
            found.append((delivery.delivered_on, number, delivery))
    ordered = [delivery for *_, delivery in sorted(found, key=lambda item: (item[0], item[1], item[2].delivery))]
    listed = [delivery for delivery in ordered if not interval.starts_after(delivery.delivered_on)]
    earlier = ordered[: len(ordered) - len(listed)]
    earlier_key = _store_list(context, selection.origin, earlier) if earlier else None
    rows_in = sum(delivery.rows_in for delivery in listed)
    context.progress(len(listed), len(listed), "deliveries", force=True, rows_in=rows_in)
    return {
        "deliveries": [
            delivery.model_copy(update={"earlier": earlier_key}).model_dump(mode="json") for delivery in listed
        ],
        "rows_in": rows_in,
        "watermarks": watermarks,
    }


class _Reader:
    """Ingests what one source has for an interval."""

    def __init__(
        self,
        context: StepContext,
        catalogue: Catalogue,
        ref: SourceRef,
        code: DataCode,
        tables: Mapping[str, pa.Schema],
        interval: Interval,
    ) -> None:
        self._context = context
        self._catalogue = catalogue
        self._ref = ref
        self._code = code
        self._tables = tables
        self._interval = interval
        self._mark = reading_mark(ref, tables)
        family = context.document.family
        self._known = catalogue.deliveries(family, ref.id)
        self._tags = catalogue.tags(family, ref.id, self._mark)
        self._seen = catalogue.seen(family, ref.id)
        days = [delivery.delivered_on for delivery in self._known]
        self._watermark = max(days) if days else None

    def ingested_before(self, names: frozenset[str] = frozenset()) -> list[IngestedDelivery]:
        """What was ingested before, in the content that was seen last, without the deliveries in `names`."""
        newest = {d.delivery: d for d in self._known if self._seen.get(d.delivery) == d.digest}
        return [
            d for name, d in newest.items() if name not in names and not self._interval.ended_before(d.delivered_on)
        ]

    def deliveries(self) -> list[IngestedDelivery]:
        """What the source has and had before the end of the interval; what is new there is ingested."""
        found: list[IngestedDelivery] = []
        names: set[str] = set()
        window = Window(
            self._interval.since,
            self._interval.until,
            self._context.document.created_at.astimezone(UTC).date(),
            self._watermark,
            self._ref.own_names(self._tags),
        )
        with open_place(self._ref, self._code, self._context.document.spec.data.tables) as place:
            for offer in place.offers(window):
                if self._interval.ended_before(offer.delivered_on):
                    continue
                name = self._name(offer.name)
                names.add(name)
                self._context.progress(len(names), len(names), "deliveries", delivery=name)
                try:
                    entry = self._unchanged(name, offer) or self._fetch(place, name, offer)
                    self._note_seen(entry)
                    found.append(entry)
                except DataError as error:
                    if not self._interval.starts_after(offer.delivered_on):
                        raise
                    print(f"skipped delivery {name} of before the interval: {error}", flush=True)
        return [*found, *self.ingested_before(frozenset(names))]

    def _note_seen(self, entry: IngestedDelivery) -> None:
        """A correction that was taken back is older than the correction, and counts all the same."""
        if entry in self._known and self._seen.get(entry.delivery) != entry.digest:
            family, now = self._context.document.family, datetime.now(UTC)
            self._catalogue.note_tag(family, self._ref.id, entry.delivery, SEEN, now.isoformat(), entry.digest, now)

    def _name(self, name: str) -> str:
        try:
            return self._ref.delivery_name(name)
        except ValueError as error:
            hint = "use letters, digits, . _ - and no more than 100 of them"
            raise DataError(f"a delivery cannot be named {str(error)!r}", where=self._ref.id, hint=hint) from None

    def _unchanged(self, name: str, offer: Offer) -> IngestedDelivery | None:
        """The delivery, where its tag says that its content was ingested before."""
        digest = self._tags.get(name, {}).get(offer.tag) if offer.tag else None
        return self._find(name, digest) if digest else None

    def _find(self, name: str, digest: str) -> IngestedDelivery | None:
        for entry in self._known:
            if (entry.delivery, entry.digest) == (name, digest) and batch_exists(self._context.store, entry.batch_key):
                return entry
        return None

    def _fetch(self, place: Place, name: str, offer: Offer) -> IngestedDelivery:
        family, source = self._context.document.family, self._ref.id
        with place.fetch(offer) as delivery:
            digest = delivery_digest(delivery, self._mark)
            entry = self._find(name, digest) or self._ingest(name, offer.delivered_on, delivery, digest)
        if offer.tag:
            self._catalogue.note_tag(family, source, name, self._mark, offer.tag, digest, datetime.now(UTC))
        return entry

    def _ingest(self, name: str, day: date, delivery: Delivery, digest: str) -> IngestedDelivery:
        context, family = self._context, self._context.document.family
        held = self._is_late(name, day) and self._ref.spec.late is LateRule.QUARANTINE
        prefix = f"raw/{family}/{self._ref.id}/{name}-{digest[:16]}{'-late' if held else ''}"
        rows = (
            rows_of_batch(context.store, prefix)
            if batch_exists(context.store, prefix)
            else self._copy(name, delivery, digest, prefix, held)
        )
        entry = IngestedDelivery(delivery=name, delivered_on=day, digest=digest, rows_in=rows, batch_key=prefix)
        if not self._catalogue.add_delivery(family, self._ref.id, entry, datetime.now(UTC)):
            known = self._catalogue.deliveries(family, self._ref.id)  # another run was faster: its entry counts
            entry = next((d for d in known if (d.delivery, d.digest) == (name, digest)), entry)
        print(f"ingested delivery {name}: {rows} rows{', late: to quarantine' if held else ''}", flush=True)
        return entry

    def _is_late(self, name: str, day: date) -> bool:
        is_new = all(entry.delivery != name for entry in self._known)  # another content is a correction
        return is_new and self._watermark is not None and day < self._watermark

    def _copy(self, name: str, delivery: Delivery, digest: str, prefix: str, held: bool) -> int:
        def confirm() -> None:
            if delivery_digest(delivery, self._mark) != digest:
                raise SourceChanged(f"delivery {name} changed while it was read", hint="try again")

        spec = self._context.document.spec
        records = records_of(self._ref, self._code, delivery, self._tables, spec.data.max_row_bytes)
        shown = self._showing(name, _held_back(records) if held else records)
        return write_batch(self._context.store, prefix, self._tables, shown, confirm)

    def _showing(self, name: str, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
        for number, record in enumerate(records, 1):
            if not number % 10_000:
                self._context.progress(number, number, "rows", delivery=name)
            yield record


def _note_release(context: StepContext, catalogue: Catalogue, delivery: IngestedDelivery) -> None:
    """A release has its raw batch already; it is a delivery of the catalogue like any other."""
    if catalogue.add_delivery(context.document.family, RELEASE, delivery, datetime.now(UTC)):
        print(f"ingested {delivery.delivery}: {delivery.rows_in} rows out of quarantine", flush=True)


def _held_back(records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """Rows of a delivery that came too late: none is read further, each is told."""
    for record in records:
        raw = record.raw if record.problem else row_json(record.values)
        yield RawRecord(record.table, record.place, {}, LATE, raw, "came after a newer delivery of its source")


def _store_list(context: StepContext, origin: str, deliveries: Sequence[IngestedDelivery]) -> str:
    """Stores the list under a key made of its content, so that equal lists are one object."""
    records = [delivery.model_dump(mode="json") for delivery in deliveries]
    key = f"raw/{context.document.family}/{origin}/lists/{fingerprint(deliveries=records)[:20]}.json"
    context.store.put(key, json.dumps(records, indent=1).encode())
    return key


def _day(value: str | None) -> date | None:
    return None if value is None else datetime.fromisoformat(value).date()
