"""Which datasets a step reads and makes, told from its run document and its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from include.data.manifest import SPLIT, Manifest
from include.data.records import DeliveryCheck
from include.data.sources import select_sources
from include.lineage import names
from include.lineage.facets import made, read
from include.store.objects import ObjectStore

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset

    from include.steps.document import RunDocument

#: Deliveries whose checks are read for one event; a run over years of deliveries tells of the newest.
MAX_CHECKS = 50
_PLATFORM_COLUMNS = frozenset({"source", "delivery", "delivered_on", "digest"})

_Found = tuple[list["InputDataset"], list["OutputDataset"]]


def datasets(document: RunDocument, outputs: dict[str, Any] | None, store: ObjectStore) -> _Found:
    """What the step reads, and what it made. `outputs` is None until the step has ended well."""
    find = _STEPS.get(document.step)
    return find(document, outputs, store) if find else ([], [])


def _ingest(document: RunDocument, outputs: dict[str, Any] | None, store: ObjectStore) -> _Found:
    family, at = document.family, names.namespace()
    if outputs is None:
        selection = select_sources(document.spec, document.inputs.get("source"))
        return [read(at, names.source_name(family, ref.id)) for ref in selection.looked_at], []
    rows: dict[str, int] = {}
    for delivery in outputs["deliveries"]:
        source = delivery["batch_key"].split("/")[2]
        rows[source] = rows.get(source, 0) + delivery["rows_in"]
    return (
        [read(at, names.source_name(family, source), source=source) for source in rows],
        [
            made(at, names.raw_name(family, source), rows=count, uri=store.uri(f"raw/{family}/{source}"))
            for source, count in rows.items()
        ],
    )


def _validate(document: RunDocument, outputs: dict[str, Any] | None, store: ObjectStore) -> _Found:
    family, at = document.family, names.namespace()
    sources = sorted({delivery["batch_key"].split("/")[2] for delivery in document.inputs["deliveries"]})
    if outputs is None:
        return [read(at, names.raw_name(family, source)) for source in sources], []
    counts: dict[tuple[str, str], dict[str, Any]] = {}
    clean: dict[str, int] = {}
    for record in outputs["checked"][-MAX_CHECKS:]:
        check = DeliveryCheck.model_validate_json(store.get(record["check_key"]))
        for table, found in check.tables.items():
            clean[table] = clean.get(table, 0) + found.rows_clean
            for count in found.expectations:
                empty = {"table": table, **count.model_dump(), "evaluated": 0, "failed": 0}
                total = counts.setdefault((table, count.reason), empty)
                total["evaluated"] += count.evaluated
                total["failed"] += count.failed
    first, *others = sources or [""]
    inputs = [read(at, names.raw_name(family, first), counts=counts.values())] if first else []
    outs = [made(at, names.clean_name(family, table), rows=rows) for table, rows in clean.items()]
    held = outputs["totals"]["rows_quarantined"]
    return (
        [*inputs, *(read(at, names.raw_name(family, source)) for source in others)],
        [*outs, made(at, names.quarantine_name(family), rows=held, uri=store.uri(f"checked/{family}"))],
    )


def _publish(document: RunDocument, outputs: dict[str, Any] | None, store: ObjectStore) -> _Found:
    family, at, spec = document.family, names.namespace(), document.spec
    inputs = [read(at, names.clean_name(family, table)) for table in spec.data.tables]
    if outputs is None:
        return inputs, []
    manifest = Manifest.model_validate_json(store.get(outputs["manifest_key"]))
    tables = [
        made(
            at,
            names.table_name(family, name),
            rows=table.rows,
            version=manifest.version,
            uri=store.uri(table.location),
            columns=table.columns,
            from_columns=_origins(family, name, table.columns, spec.split.by),
        )
        for name, table in manifest.tables.items()
    ]
    whole = made(at, names.data_name(family), version=manifest.version, uri=store.uri(outputs["manifest_key"]))
    return inputs, [*tables, whole]


def _origins(family: str, table: str, columns: list[str], split_by: str) -> dict[str, list[tuple[str, str, str]]]:
    at, name = names.namespace(), names.clean_name(family, table)
    found = {}
    for column in (text.split(": ", 1)[0] for text in columns):
        if column not in _PLATFORM_COLUMNS:
            found[column] = [(at, name, split_by if column == SPLIT else column)]
    return found


def _sweep(document: RunDocument, outputs: dict[str, Any] | None, store: ObjectStore) -> _Found:
    study = str(document.inputs["study"])
    done = [] if outputs is None else [made(names.namespace(), names.study_name(document.family), version=study)]
    return [_dataset(document)], done


def _fit(document: RunDocument, outputs: dict[str, Any] | None, store: ObjectStore) -> _Found:
    origins = document.inputs.get("origins") or {}
    at, name = names.namespace(), names.model_name(document.family)
    inputs = [_dataset(document), *(read(at, name, version=entry["digest"]) for entry in origins.values())]
    if outputs is None:
        return inputs, []
    facts = {"digest": outputs["digest"], "metrics": outputs["metrics"], **_chosen(document)}
    return inputs, [made(at, name, version=outputs["digest"], model=facts)]


def _evaluate(document: RunDocument, outputs: dict[str, Any] | None, store: ObjectStore) -> _Found:
    at, family, inputs = names.namespace(), document.family, document.inputs
    champion = inputs.get("champion") or {}
    judged = [digest for digest in (inputs["candidate"], champion.get("digest")) if digest]
    models = [read(at, names.model_name(family), version=digest) for digest in judged]
    if outputs is None:
        return [_dataset(document), *models], []
    report = made(
        at,
        names.report_name(family),
        version=document.fingerprint,
        uri=store.uri(outputs["report_key"]),
        model={"digest": inputs["candidate"], "metrics": outputs["summary"]},
    )
    return [_dataset(document), *models], [report]


def _dataset(document: RunDocument) -> InputDataset:
    """The dataset version that the step works on."""
    version = str(document.inputs["dataset_version"])
    return read(names.namespace(), names.data_name(document.family), version=version)


def _chosen(document: RunDocument) -> dict[str, Any]:
    return {key: document.inputs.get(key) for key in ("hyperparameters", "seed", "dataset_version", "dataset_digest")}


_STEPS: dict[str, Callable[[RunDocument, dict[str, Any] | None, ObjectStore], _Found]] = {
    "ingest": _ingest,
    "validate": _validate,
    "publish": _publish,
    "sweep": _sweep,
    "fit": _fit,
    "evaluate": _evaluate,
}
