"""The `ingest` step: copies what a source delivered before the end of the interval into raw batches.

Deliveries in `[since, until)` are this run's. Earlier ones are looked at as well, because a delivery may come late,
and because a question may cite a passage of an earlier delivery; they go along as the list under `earlier`. A
delivery that the catalogue knows with the same content is not read again. Rows that people released from the
quarantine of this source come along as deliveries of the day of their release (see `include.data.released`).

Safe to repeat and to run beside itself: a batch is complete when its `batch.json` is there and counts when it stands
in the catalogue, once per content.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from include.data.batches import batch_exists, rows_of_batch, write_batch
from include.data.catalogue import Catalogue
from include.data.records import IngestedDelivery
from include.data.released import RELEASE, released_deliveries
from include.data.sources import Source, delivery_digest, list_deliveries, open_source
from include.errors import DataError, UserError, WindtunnelError
from include.families.contract import Delivery, load_data_code
from include.release.ledger import Ledger
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
    """See the module. Inputs: `run`, `source`, `since`, `until`; outputs: `deliveries`, `rows_in`, `watermark`."""
    inputs, family = context.document.inputs, context.document.family
    interval = Interval.parse(inputs.get("since"), inputs.get("until"))
    catalogue = Catalogue(open_database(context.settings.database_url))
    with open_source(family, inputs["source"]) as source:
        listed, earlier = _collect(context, source, catalogue, interval)
        watermark = catalogue.watermark(family, source.id)
    earlier_key = _store_list(context, source, earlier) if earlier else None
    rows_in = sum(delivery.rows_in for delivery in listed)
    context.progress(len(listed), len(listed), "deliveries", force=True, rows_in=rows_in, watermark=watermark)
    return {
        "deliveries": [
            delivery.model_copy(update={"earlier": earlier_key}).model_dump(mode="json") for delivery in listed
        ],
        "rows_in": rows_in,
        "watermark": watermark.isoformat() if watermark else None,
    }


def _collect(
    context: StepContext, source: Source, catalogue: Catalogue, interval: Interval
) -> tuple[list[IngestedDelivery], list[IngestedDelivery]]:
    """This run's deliveries and the earlier ones, each oldest first."""
    family = context.document.family
    known = catalogue.deliveries(family, source.id)
    offered = [
        delivery
        for delivery in list_deliveries(context.document.spec, source)
        if not interval.ended_before(delivery.delivered_on)
    ]
    found: list[IngestedDelivery] = []
    for number, delivery in enumerate(offered):
        context.progress(number, len(offered), "deliveries", delivery=delivery.name)
        try:
            found.append(_ingest_one(context, source, catalogue, delivery, known))
        except DataError as error:
            if not interval.starts_after(delivery.delivered_on):
                raise
            print(f"skipped delivery {delivery.name} of before the interval: {error}", flush=True)
    names = {delivery.name for delivery in offered}
    gone = {d.delivery: d for d in known if d.delivery not in names and not interval.ended_before(d.delivered_on)}
    released = [
        _note_release(context, catalogue, delivery)
        for delivery in released_deliveries(Ledger(open_database(context.settings.database_url)), family, {source.id})
        if not interval.ended_before(delivery.delivered_on)
    ]
    found = sorted([*found, *gone.values()], key=lambda d: (d.delivered_on, d.delivery))
    found = sorted(
        [*found, *released], key=lambda d: d.delivered_on
    )  # of two releases of a day, the first counts first
    listed = [delivery for delivery in found if not interval.starts_after(delivery.delivered_on)]
    return listed, found[: len(found) - len(listed)]


def _ingest_one(
    context: StepContext, source: Source, catalogue: Catalogue, delivery: Delivery, known: Sequence[IngestedDelivery]
) -> IngestedDelivery:
    spec = context.document.spec
    digest = delivery_digest(delivery)
    for entry in known:
        if (entry.delivery, entry.digest) == (delivery.name, digest) and batch_exists(context.store, entry.batch_key):
            return entry
    prefix = f"raw/{spec.family}/{source.id}/{delivery.name}-{digest[:16]}"
    rows = (
        rows_of_batch(context.store, prefix)
        if batch_exists(context.store, prefix)
        else _copy(context, delivery, digest, prefix)
    )
    entry = IngestedDelivery(
        delivery=delivery.name, delivered_on=delivery.delivered_on, digest=digest, rows_in=rows, batch_key=prefix
    )
    catalogue.add_delivery(spec.family, source.id, entry, datetime.now(UTC))
    print(f"ingested delivery {delivery.name}: {rows} rows", flush=True)
    return entry


def _note_release(context: StepContext, catalogue: Catalogue, delivery: IngestedDelivery) -> IngestedDelivery:
    """A release has its raw batch already; it is a delivery of the catalogue like any other."""
    if catalogue.add_delivery(context.document.family, RELEASE, delivery, datetime.now(UTC)):
        print(f"ingested {delivery.delivery}: {delivery.rows_in} rows out of quarantine", flush=True)
    return delivery


def _copy(context: StepContext, delivery: Delivery, digest: str, prefix: str) -> int:
    spec = context.document.spec
    code = load_data_code(spec.code)
    schemas = code.schemas()
    if set(schemas) != set(spec.data.tables):
        raise UserError(
            f"the family's code makes the tables {sorted(schemas)}, the spec names {sorted(spec.data.tables)}",
            where="data.tables",
            hint="name the same tables in family.yaml",
        )

    def confirm() -> None:
        if delivery_digest(delivery) != digest:
            raise SourceChanged(f"delivery {delivery.name} changed while it was read", hint="try again")

    return write_batch(context.store, prefix, schemas, code.records(delivery, spec.data.max_row_bytes), confirm)


def _store_list(context: StepContext, source: Source, deliveries: Sequence[IngestedDelivery]) -> str:
    """Stores the list under a key made of its content, so that equal lists are one object."""
    records = [delivery.model_dump(mode="json") for delivery in deliveries]
    key = f"raw/{context.document.family}/{source.id}/lists/{fingerprint(deliveries=records)[:20]}.json"
    context.store.put(key, json.dumps(records, indent=1).encode())
    return key


def _day(value: str | None) -> date | None:
    return None if value is None else datetime.fromisoformat(value).date()
