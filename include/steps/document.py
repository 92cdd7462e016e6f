"""The run document: everything a step needs to know, in one JSON object in the object store.

A step is started with nothing but the URI of its document. It holds no secret and no bytes of data, only the resolved
spec, small parameters and the keys of the step's inputs.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from include.errors import UserError
from include.failures.adjust import Adjustment
from include.spec.models import AnyFamilySpec, FamilySpec
from include.steps.fingerprint import fingerprint


class RunDocument(BaseModel):
    """What to do, on what, and where the results go.

    Attributes:
        step: Name of the step, such as `fit`.
        spec: The family's spec, profile applied; see `model_spec`.
        run: Identifies the pipeline run, such as `train__compliance_qa/manual__2026-11-02`; progress is shown by it.
        inputs: Parameters and object keys, by the step's own names; part of the fingerprint.
        fingerprint: Of step, code version, `inputs` and the parts of the spec that the step uses.
        output: Object-key prefix of everything the step writes; ends in the fingerprint, so that the same work has the
            same place.
        slot: Which of several parallel copies of the step this is (0 unless mapped).
        adjustment: What this try does differently because an earlier one ran out of memory or diverged; not part of the
            fingerprint, because it is found in the work's own place.
        context: Facts that must not change the result (logical date, try number); not part of the fingerprint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    step: str
    run: str
    spec: AnyFamilySpec
    inputs: dict[str, Any]
    code_version: str
    fingerprint: str
    output: str
    slot: int = 0
    adjustment: Adjustment = Adjustment()
    context: dict[str, Any] = {}
    created_at: datetime

    @property
    def family(self) -> str:
        return self.spec.family

    @property
    def model_spec(self) -> FamilySpec:
        """The spec, for steps that need a model. Raises `UserError` where the family is only data."""
        if not isinstance(self.spec, FamilySpec):
            raise UserError(f"the family {self.family!r} is only data: the step {self.step!r} needs a model")
        return self.spec

    @property
    def nodes(self) -> int:
        """How many pods do the step together."""
        return self.spec.trainer.nodes if self.step == "fit" and isinstance(self.spec, FamilySpec) else 1

    @property
    def result_key(self) -> str:
        """Where the step's outcome is written, last of all."""
        return f"{self.output}/result.json"

    @property
    def error_key(self) -> str:
        """Where a failed attempt leaves its error."""
        return f"{self.output}/error.json"

    @property
    def document_key(self) -> str:
        return document_key(self.run, self.step, self.slot)

    @property
    def progress_key(self) -> str:
        return progress_key(self.run, self.step, self.slot)


def run_key(dag_id: str, run_id: str) -> str:
    """The name of a pipeline run in object keys: `<dag_id>/<run_id>` with only letters, digits, `.`, `_` and `-`."""
    return "/".join(re.sub(r"[^A-Za-z0-9_.-]", "_", part) for part in (dag_id, run_id))


def document_key(run: str, step: str, slot: int = 0) -> str:
    """Object key of the latest run document of a step of a run."""
    return f"runs/{run}/{step}-{slot}.json"


def progress_key(run: str, step: str, slot: int = 0) -> str:
    """Object key of the latest progress record of a step of a run."""
    return f"runs/{run}/{step}-{slot}.progress.json"


def make_document(
    step: str,
    run: str,
    spec: AnyFamilySpec,
    inputs: dict[str, Any],
    *,
    spec_parts: tuple[str, ...],
    code_version: str,
    created_at: datetime,
    slot: int = 0,
    context: dict[str, Any] | None = None,
) -> RunDocument:
    """A document with its fingerprint and output place.

    Args:
        spec_parts: Top-level fields of the spec that influence the step's result; a change elsewhere in the spec then
            does not force the work to be done again.
    """
    used = {name: value for name, value in spec.model_dump(mode="json").items() if name in spec_parts}
    print_ = fingerprint(step=step, family=spec.family, slot=slot, code=code_version, spec=used, inputs=inputs)
    return RunDocument(
        step=step,
        run=run,
        spec=spec,
        inputs=inputs,
        code_version=code_version,
        fingerprint=print_,
        output=f"steps/{spec.family}/{step}/{print_[:20]}",
        slot=slot,
        context=context or {},
        created_at=created_at,
    )
