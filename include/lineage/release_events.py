"""OpenLineage events of what has no step process: registration, and the stages of a release.

Told from the ledger's entries at the moment they are added, so that every event is told once however often a task is
tried. A rollout is a run of `<family>.release`; each of its stages is a run of `<family>.release.<stage>`, which starts
when traffic moves and is COMPLETE or FAIL with the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from include.lineage.emitter import Emitter
from include.lineage.names import data_name, job_name, model_name, namespace, run_id, traffic_name
from include.release.ledger import Entry, Event
from include.release.rollout import StageVerdict
from include.settings import Settings
from include.store.objects import open_store

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

_RELEASE = "release"


def teller(settings: Settings) -> Callable[[Entry], None]:
    """What `Ledger` calls with every entry that is new; it raises nothing."""

    def tell(entry: Entry) -> None:
        if entry.event not in _TOLD:
            return
        emitter = Emitter(open_store(settings.store_url), entry.family)
        for state in _TOLD[entry.event]:
            refused = entry.event is Event.STAGE_JUDGED and entry.record["verdict"] != StageVerdict.PASS.value
            emitter.emit(partial(_event, entry, "FAIL" if refused else state))
        emitter.close()

    return tell


#: Entry -> states that it tells of. A verdict decides between COMPLETE and FAIL.
_TOLD: dict[Event, tuple[str, ...]] = {
    Event.REGISTERED: ("START", "COMPLETE"),
    Event.ROLLOUT_BEGUN: ("START",),
    Event.STAGE_ENTERED: ("START",),
    Event.STAGE_JUDGED: ("COMPLETE",),
    Event.PROMOTED: ("COMPLETE",),
    Event.ROLLED_BACK: ("FAIL",),
}


def _event(entry: Entry, state: str) -> RunEvent:
    from include.lineage import facets
    from include.steps.fingerprint import code_version

    record, family = entry.record, entry.family
    parts, known_by, parent = _place(entry)
    failed = [record.get("reason") or "; ".join(record.get("why", []))] if state == "FAIL" else []
    read, made = _datasets(entry, state)
    return facets.event(
        state,
        entry.at.isoformat(timespec="microseconds"),
        job=job_name(family, *parts),
        run=run_id(*known_by),
        parent=parent,
        facts={"event": entry.event.value, "actor": entry.actor, "model_version": entry.model_version},
        inputs=read,
        outputs=made,
        error="".join(failed),
        code_version=code_version(),
        namespace=namespace(),
    )


def _place(entry: Entry) -> tuple[tuple[str, ...], tuple[object, ...], tuple[str, str] | None]:
    """The job's name, what its run is known by, and the run above it."""
    record, family = entry.record, entry.family
    if entry.event is Event.REGISTERED:
        return ("register",), (family, "register", entry.id), None
    rollout = record.get("rollout") or f"entry-{entry.id}"  # a person's rollback belongs to no rollout
    whole = (family, _RELEASE, rollout)
    if "stage" in record:
        stage = record["stage"]
        return (_RELEASE, stage), (*whole, stage), (job_name(family, _RELEASE), run_id(*whole))
    return (_RELEASE,), whole, None


def _datasets(entry: Entry, state: str) -> tuple[list[InputDataset], list[OutputDataset]]:
    from include.lineage.facets import made, read

    record, family, at = entry.record, entry.family, namespace()
    if entry.event is Event.REGISTERED:
        facts = {key: record.get(key) for key in ("digest", "verdict", "releasable", "mlflow_version", "why")}
        inputs = [
            read(at, data_name(family), version=record["dataset_version"]),
            read(at, model_name(family), version=record["digest"]),
        ]
        if state == "START":
            return inputs, []
        return inputs, [made(at, model_name(family), version=entry.model_version, model=facts)]
    inputs = [read(at, model_name(family), version=entry.model_version)]
    generation = record.get("generation")
    if generation is None or entry.event is Event.ROLLOUT_BEGUN:
        return inputs, []
    return inputs, [made(at, traffic_name(family), version=str(generation))]
