"""The data behind a model: its dataset version with the manifest, the deliveries, what was checked and left out."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import ValidationError

from include.data.catalogue import VersionEntry
from include.data.datasets import list_versions
from include.data.manifest import Manifest, dataset_digest
from include.data.recalls import Recall, active_recalls, touches
from include.data.records import CheckedDelivery, DeliveryCheck
from include.dossier.stored import State, Stored, read_checked, unreadable
from include.dossier.subject import History, Subject
from include.release.ledger import Event
from include.settings import Settings
from include.steps.fingerprint import fingerprint
from include.store.objects import ObjectStore

_READERS = 8

_Record = dict[str, Any]


def data_of(settings: Settings, store: ObjectStore, history: History, subject: Subject) -> _Record:
    """The dataset version.

    Returns:
        `version`, `digest` (recorded with the model, else what the manifest says), `published_at`, `manifest`
        (`Stored`), and, where the manifest can be read: `change`, `parent`, `split`, `rows` (table -> rows, splits),
        `suite`, `transformations`, `totals` (what came in and what became of it), `sources` (id -> role, deliveries,
        rows), `deliveries` (each with its counts, reasons and `check`, a `Stored`); `recalls` of any of it.
    """
    published = list_versions(settings, subject.family)
    entry = next((row for row in published if row.version == subject.dataset_version), None)
    known = {
        "version": subject.dataset_version,
        "digest": subject.dataset_digest,
        "published_at": entry.published_at.isoformat() if entry else None,
    }
    stored, manifest = _manifest(store, entry, subject)
    recalls = _recalls(store, history, subject, manifest)
    if manifest is None:
        return {**known, "manifest": stored.to_json(), "deliveries": [], "sources": {}, "recalls": recalls}
    deliveries = _deliveries(store, manifest)
    return {
        **known,
        "digest": manifest.digest,
        "manifest": stored.to_json(),
        "change": {"level": manifest.change.level.value, "reason": manifest.change.reason},
        "parent": manifest.parent,
        "split": manifest.split,
        "rows": {
            name: {"rows": table.rows, "splits": dict(table.splits), "digest": table.digest}
            for name, table in manifest.tables.items()
        },
        "suite": manifest.suite,
        "code_version": manifest.code_version,
        "transformations": [step.model_dump(mode="json") for step in manifest.transformations],
        "totals": manifest.totals.model_dump(mode="json"),
        "sources": _sources(manifest),
        "deliveries": deliveries,
        "recalls": recalls,
    }


def _manifest(store: ObjectStore, entry: VersionEntry | None, subject: Subject) -> tuple[Stored, Manifest | None]:
    name, recorded = "dataset manifest", subject.record.get("dataset") or {}
    if entry is None:
        why = f"dataset version {subject.dataset_version} is not in the catalogue"
        return Stored(name, "", subject.dataset_digest, State.MISSING, why), None
    stored, data = read_checked(store, name, entry.manifest_key, recorded.get("manifest_digest"))
    if data is None:
        return stored, None
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        return unreadable(stored, error), None
    made = dataset_digest(manifest.family, manifest.tables)
    wanted = subject.dataset_digest or manifest.digest
    if not made == manifest.digest == wanted:
        why = f"the dataset manifest was altered: its tables have the digest {made[:12]}, recorded was {wanted[:12]}"
        return Stored(name, stored.key, wanted, State.ALTERED, why), None
    return Stored(name, stored.key, wanted, State.WHOLE), manifest


def _deliveries(store: ObjectStore, manifest: Manifest) -> list[_Record]:
    with ThreadPoolExecutor(_READERS) as readers:
        checks = list(readers.map(lambda delivery: _check(store, delivery), manifest.deliveries))
    return [
        {
            "delivery": delivery.delivery,
            "source": delivery.source,
            "delivered_on": delivery.delivered_on.isoformat(),
            "digest": delivery.digest,
            "rows_in": delivery.rows_in,
            "rows_clean": delivery.rows_clean,
            "rows_quarantined": delivery.rows_quarantined,
            "rows_duplicate": delivery.rows_duplicate,
            "reasons": delivery.reasons,
            "waived": delivery.waived,
            "suite": f"{delivery.suite} {delivery.suite_version}".strip(),
            "suite_digest": delivery.suite_digest,
            "check": stored.to_json(),
            "valid_rate": rates,
        }
        for delivery, (stored, rates) in zip(manifest.deliveries, checks, strict=True)
    ]


def _check(store: ObjectStore, delivery: CheckedDelivery) -> tuple[Stored, dict[str, float]]:
    """The stored check of a delivery, held against its digest, and the share of valid rows of each table."""
    name = f"check of delivery {delivery.delivery}"
    stored, data = read_checked(store, name, delivery.check_key, None)
    if data is None:
        return Stored(name, stored.key, delivery.check_digest or None, stored.state, stored.why), {}
    try:
        check = DeliveryCheck.model_validate_json(data)
    except ValidationError as error:
        return unreadable(stored, error), {}
    rates = {table: round(found.valid_rate, 6) for table, found in check.tables.items()}
    if not delivery.check_digest:
        return stored, rates
    made = fingerprint(check=check.model_dump(mode="json", exclude={"checked_at"}))
    if made != delivery.check_digest:
        why = f"the {name} was altered: its digest is {made[:12]}, recorded was {delivery.check_digest[:12]}"
        return Stored(name, stored.key, delivery.check_digest, State.ALTERED, why), {}
    return Stored(name, stored.key, delivery.check_digest, State.WHOLE), rates


def _sources(manifest: Manifest) -> dict[str, _Record]:
    found: dict[str, _Record] = {}
    for delivery in manifest.deliveries:
        source = found.setdefault(
            delivery.source,
            {"role": manifest.sources.get(delivery.source), "deliveries": 0, "rows_clean": 0, "newest": None},
        )
        source["deliveries"] += 1
        source["rows_clean"] += delivery.rows_clean
        source["newest"] = max(filter(None, [source["newest"], delivery.delivered_on.isoformat()]))
    return found


def _recalls(store: ObjectStore, history: History, subject: Subject, manifest: Manifest | None) -> list[_Record]:
    """Recalls that touch the dataset version or those of the models that this one started from; lifted ones as well."""
    data = subject.version.data if subject.version else [subject.dataset_version]
    active = {entry.id for entry, _ in active_recalls(history.ledger, history.family)}
    found = []
    for entry in history.entries:
        if entry.event is not Event.DATASET_RECALLED:
            continue
        try:
            recall = Recall.model_validate(entry.record["recall"])
            held = recall.version in data or (manifest is not None and touches(store, recall, manifest))
        except Exception as error:  # rows are read from Delta tables, which may be gone: better told than left out
            held, words = True, f"whether it is touched cannot be told ({type(error).__name__})"
        else:
            words = recall.words()
        if held:
            found.append(
                {
                    "dataset_version": entry.record.get("dataset_version"),
                    "what": words,
                    "why": entry.record.get("reason"),
                    "by": entry.actor,
                    "at": entry.at.isoformat(),
                    "active": entry.id in active,
                }
            )
    return found


def origins_of(record: Mapping[str, Any]) -> list[_Record]:
    """The models that it started or learned from: `role`, `version`, `digest`, `data` each."""
    return [{"role": role, **facts} for role, facts in (record.get("origins") or {}).items()]
