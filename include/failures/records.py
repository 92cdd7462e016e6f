"""Where bad ends are kept: one object each, beside the work, under the name of the pod's attempt.

`<output>/failures/<attempt>.json` is written by whoever watched the attempt end, before the next one begins, and never
changed: however often the same end is looked at, it is counted once. The next try reads from there what to do
differently, and the result what it cost to get there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from include.failures.adjust import Adjustment
from include.failures.classify import Evidence, classify
from include.failures.endings import Ending
from include.failures.policy import Action, decide
from include.spec.models import FamilySpec
from include.steps.document import RunDocument
from include.store.objects import ObjectNotFound, ObjectStore

LEARNING_RATE = "learning_rate"


class FailureRecord(BaseModel):
    """One bad end.

    Attributes:
        attempt: Names the attempt: the Kubernetes pod's uid, or what the local pod was given at its start.
        run: The pipeline run whose task it was.
        text: What happened, where, and what to do.
        line: The line that matters.
        reason: Why `action` follows.
        adjustment: How the next try differs from what was asked for.
        usage: What the attempt used (`include.costs`), as far as it is known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: str
    at: datetime
    run: str
    ending: Ending
    text: str
    line: str
    where: str
    exit_code: int | None
    action: Action
    reason: str
    pause_seconds: float | None
    adjustment: Adjustment
    usage: dict[str, Any] = {}


def read_failures(store: ObjectStore, output: str) -> list[FailureRecord]:
    """All bad ends of the work whose output is under `output`, the oldest first."""
    found = [FailureRecord.model_validate_json(store.get(key)) for key in store.keys(f"{output}/failures/")]
    return sorted(found, key=lambda failure: (failure.at, failure.attempt))


def adjustment_of(failures: Sequence[FailureRecord]) -> Adjustment:
    """How the next try differs from what was asked for."""
    now = Adjustment()
    for failure in failures:
        now = now.both(failure.adjustment)
    return now


def record_failure(
    store: ObjectStore,
    document: RunDocument,
    attempt: str,
    evidence: Evidence,
    *,
    at: datetime,
    usage: dict[str, Any] | None = None,
) -> FailureRecord:
    """Finds out how the attempt ended and what is to be done, and keeps both; once per attempt."""
    known = find_failure(store, document.output, attempt)
    if known is not None:
        return known
    diagnosis, failures = classify(evidence), read_failures(store, document.output)
    decision = decide(
        diagnosis.ending,
        step=document.step,
        spec=document.spec,
        now=adjustment_of(failures),
        earlier=[failure.ending for failure in failures if failure.run == document.run],
        has_rate=_has_rate(document),
    )
    record = FailureRecord(
        attempt=attempt,
        at=at,
        run=document.run,
        ending=diagnosis.ending,
        text=diagnosis.text,
        line=diagnosis.line,
        where=diagnosis.where,
        exit_code=evidence.exit_code,
        action=decision.action,
        reason=decision.reason,
        pause_seconds=decision.pause_seconds,
        adjustment=decision.adjustment,
        usage=usage or {},
    )
    store.put(_key(document.output, attempt), record.model_dump_json(indent=1).encode())
    return record


def find_failure(store: ObjectStore, output: str, attempt: str) -> FailureRecord | None:
    """The record of this attempt's end, if there is one."""
    try:
        return FailureRecord.model_validate(json.loads(store.get(_key(output, attempt))))
    except ObjectNotFound:
        return None


def _has_rate(document: RunDocument) -> bool:
    own = document.spec.hyperparameters if isinstance(document.spec, FamilySpec) else {}
    return LEARNING_RATE in {**own, **(document.inputs.get("hyperparameters") or {})}


def _key(output: str, attempt: str) -> str:
    return f"{output}/failures/{attempt}.json"
