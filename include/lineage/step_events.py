"""OpenLineage events of pipeline steps: START with what a step reads, COMPLETE with what it made, FAIL with why not.

Everything is read from the run document and the step's outputs, so that a step does not have to know that it is
watched. `steps.entry` is the one place that calls this.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.lineage.emitter import Emitter
from include.lineage.names import job_name, namespace, run_id
from include.store.objects import ObjectStore

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

    from include.errors import WindtunnelError
    from include.steps.document import RunDocument


class StepLineage:
    """Tells of one attempt at a step; a call that fails is a line in the log and nothing more."""

    def __init__(self, document: RunDocument, store: ObjectStore) -> None:
        self._document = document
        self._store = store
        self._emitter = Emitter(store, document.family)
        self._began = _now()

    def start(self) -> None:
        """The step begins."""
        self._emitter.emit(lambda: self._event("START", self._began))

    def complete(self, outputs: dict[str, Any]) -> None:
        """The step ended with `outputs`; waits a moment for what was not told yet."""
        at = _now()
        self._emitter.emit(lambda: self._event("COMPLETE", at, outputs))
        self._emitter.close()

    def fail(self, error: WindtunnelError | Exception) -> None:
        """The step failed."""
        from include.errors import WindtunnelError, clip

        at, message = _now(), clip(error.message if isinstance(error, WindtunnelError) else error)
        self._emitter.emit(lambda: self._event("FAIL", at, error=f"{type(error).__name__}: {message}"))
        self._emitter.close()

    def _event(self, state: str, at: str, outputs: dict[str, Any] | None = None, error: str = "") -> RunEvent:
        from include.lineage import facets
        from include.lineage.step_datasets import datasets

        document = self._document
        read, made = datasets(document, outputs, self._store)
        attempt = document.context.get("try_number", 1)
        dag = document.run.partition("/")[0]
        return facets.event(
            state,
            at,
            job=job_name(document.family, document.step),
            run=run_id(document.run, document.step, document.slot, attempt, self._began),
            parent=(dag, run_id(document.run)),
            facts={
                "run": document.run,
                "step": document.step,
                "slot": document.slot,
                "attempt": attempt,
                "fingerprint": document.fingerprint,
                "code_version": document.code_version,
                "output": self._store.uri(document.output),
            },
            inputs=read,
            outputs=made,
            error=error,
            code_version=document.code_version,
            namespace=namespace(),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
