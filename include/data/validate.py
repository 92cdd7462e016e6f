"""The `validate` step: every delivery through the expectation suite, failing rows to quarantine, a bad table to a halt.

Deliveries are checked in their order, because a row can repeat, and a question can cite, what an earlier delivery
brought clean. A check is stored under a fingerprint of the delivery, of all deliveries before it, of the code and of
the spec's data part; one that is there is used, so that a weekly run, a repeated run and a retry check only what is
new.

An earlier delivery that fails the gate is left out; one of this run stops it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from include.data.checks import load_check, load_keys, make_check
from include.data.records import CheckedDelivery, DeliveryCheck, IngestedDelivery, TableCheck, Totals
from include.errors import DataError, WindtunnelError
from include.expectations.docs import describe, render
from include.expectations.known import Known
from include.expectations.suites import load_suite
from include.families.contract import load_data_code
from include.steps.entry import StepContext, read_json
from include.steps.fingerprint import fingerprint


class LostRows(WindtunnelError):
    """Rows that came in were not checked."""


@dataclass(frozen=True)
class _Checked:
    """A delivery, its check, and where the check lies."""

    delivery: IngestedDelivery
    check: DeliveryCheck
    key: str


def validate(context: StepContext) -> dict[str, Any]:
    """See the module. Input: `deliveries` of `ingest`; outputs: `checked`, `totals`, `docs_key`.

    Raises:
        DataError: A table of one of the deliveries has fewer valid rows than the spec asks for.
    """
    listed = [IngestedDelivery.model_validate(record) for record in context.document.inputs["deliveries"]]
    earlier_key = listed[0].earlier if listed else None
    earlier = (
        [IngestedDelivery.model_validate(record) for record in read_json(context.store, earlier_key)]
        if earlier_key
        else []
    )
    checked = _check_all(context, [*earlier, *listed])
    before, now = checked[: len(earlier)], checked[len(earlier) :]
    docs_key = f"{context.document.output}/docs/index.html"
    context.store.put(docs_key, render(context.document.family, [entry.check for entry in now]).encode())
    _stop_if_failed(context, now)
    before_key = _store_list(context, [entry.check.summary(entry.key, None) for entry in before if entry.check.passed])
    result = [entry.check.summary(entry.key, before_key) for entry in now]
    return {
        "checked": [record.model_dump(mode="json") for record in result],
        "totals": Totals.of(result).model_dump(),
        "docs_key": docs_key,
    }


def _check_all(context: StepContext, deliveries: Sequence[IngestedDelivery]) -> list[_Checked]:
    document, spec = context.document, context.document.spec
    known, loaded, chain = Known(), 0, ""
    checked: list[_Checked] = []
    for number, delivery in enumerate(deliveries):
        context.progress(number, len(deliveries), "deliveries", delivery=delivery.delivery)
        data = spec.data.model_dump(mode="json", exclude={"sources"})
        chain = fingerprint(
            before=chain, batch=delivery.batch_key, digest=delivery.digest, code=document.code_version, data=data
        )
        prefix = f"checked/{spec.family}/{delivery.source}/{delivery.delivery}-{chain[:16]}"
        check = load_check(context.store, prefix)
        if check is None:
            for entry in checked[loaded:]:
                if entry.check.passed:
                    load_keys(context.store, entry.check, known)
            loaded = len(checked)
            code, suite = load_data_code(spec.code), load_suite(spec)

            def progress(rows: int, number: int = number, delivery: IngestedDelivery = delivery) -> None:
                context.progress(number, len(deliveries), "deliveries", delivery=delivery.delivery, rows=rows)

            earlier = [entry.check for entry in checked if entry.check.passed]
            check = make_check(context.store, prefix, spec, code.schemas(), suite, delivery, known, progress, earlier)
        _require_all(delivery, check)
        checked.append(_Checked(delivery, check, f"{prefix}/check.json"))
        _tell(delivery, check)
    context.progress(len(deliveries), len(deliveries), "deliveries", force=True)
    return checked


def _require_all(delivery: IngestedDelivery, check: DeliveryCheck) -> None:
    """Every record that came in is accounted for; a suite that leaves a table out would lose its rows."""
    found = sum(table.rows_in for table in check.tables.values())
    if found != delivery.rows_in:
        raise LostRows(
            f"{delivery.rows_in} rows of delivery {delivery.delivery} came in, and {found} were checked",
            where=delivery.batch_key,
            hint="the suite and the spec must name every table of the family's code",
        )


def _tell(delivery: IngestedDelivery, check: DeliveryCheck) -> None:
    parts = [f"{name} {table.rows_clean}/{table.rows_in} clean" for name, table in check.tables.items()]
    print(
        f"checked delivery {delivery.delivery}: {', '.join(parts)}{'' if check.passed else '; under the minimum'}",
        flush=True,
    )
    for name, table in check.tables.items():
        if table.pairs:
            print(f"  pairs of {name}: {describe(table.pairs)}", flush=True)
        for count in table.expectations:
            if count.warns and count.failed:
                print(
                    f"  warning {count.reason}: {count.failed} rows of {name} (such as {count.samples[0]})", flush=True
                )


def _stop_if_failed(context: StepContext, checked: Sequence[_Checked]) -> None:
    failed = [
        (entry, name, table) for entry in checked for name, table in entry.check.tables.items() if not table.passed
    ]
    if not failed:
        return
    parts = [f"{name} of delivery {entry.delivery.delivery}: {_describe(table)}" for entry, name, table in failed[:3]]
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    first = failed[0][0]
    raise DataError(
        f"too few valid rows in {'; '.join(parts)}{more}",
        where=context.store.uri(first.check.quarantine_key),
        hint=f"see `windtunnel quarantine show {context.document.family} {first.delivery.delivery}`; mend them at "
        f"the source, or the suite {first.check.suite!r}, or min_valid_rate in family.yaml",
        failed=[
            {
                "delivery": entry.delivery.delivery,
                "table": name,
                "valid_rate": table.valid_rate,
                "reasons": table.reasons,
                "samples": table.samples,
            }
            for entry, name, table in failed
        ],
    )


def _describe(table: TableCheck) -> str:
    broken = table.counts.rows_quarantined
    worst = sorted(table.reasons.items(), key=lambda item: -item[1])[:3]
    reasons = ", ".join(f"{reason} {rows} (such as {table.samples[reason][0]})" for reason, rows in worst)
    rates = f"{table.valid_rate:.1%} valid where {table.min_valid_rate:.0%} is needed"
    return f"{broken} of {table.rows_in} rows failed, {rates}: {reasons}"


def _store_list(context: StepContext, deliveries: Sequence[CheckedDelivery]) -> str | None:
    """Stores the list under a key made of its content; None for an empty one."""
    if not deliveries:
        return None
    records = [delivery.model_dump(mode="json") for delivery in deliveries]
    key = f"checked/{context.document.family}/lists/{fingerprint(deliveries=records)[:20]}.json"
    context.store.put(key, json.dumps(records, indent=1).encode())
    return key
