"""Runs a heavy step outside of the Airflow worker: in a Kubernetes pod, or as a supervised process of this machine.

Which of the two is configuration (`WINDTUNNEL_POD_RUNNER`); the DAG files do not know. Both write the same run
document, stream the same log, and return the same small record through XCom. Both find a pod that still runs when
Airflow's worker died under them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.pods.contract import ENDED_PHASES, PodPhase, PodSpec
from include.pods.local import LocalPodRunner, pod_name
from include.settings import Settings
from include.steps.document import RunDocument, make_document
from include.steps.entry import EXIT_FINAL
from include.steps.fingerprint import code_version
from include.store.objects import ObjectNotFound, open_store
from plugins.windtunnel.links import DataDocsLink
from plugins.windtunnel.runs import run_any_spec, run_name, run_params

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Step -> (package that runs it, parts of the spec that influence its result).
STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ingest": ("include.data", ("data",)),
    "validate": ("include.data", ("data",)),
    "publish": ("include.data", ("data", "split")),
    "sweep": ("include.training", ("code", "split", "model", "hyperparameters", "trainer", "sweep")),
    "fit": ("include.training", ("code", "split", "model", "hyperparameters", "trainer")),
    "evaluate": ("include.evaluation", ("code", "split", "model", "evaluation")),
    "drift": ("include.monitoring", ("monitoring",)),
}
_POLL_SECONDS = 0.25


def pods() -> LocalPodRunner:
    """The local pods of this installation."""
    return LocalPodRunner(Settings.from_env().home / "pods")


class StepMixin:
    """What both operators share: the run document before, the result after."""

    family: str
    step: str
    inputs: dict[str, Any]

    @property
    def operator_extra_links(self) -> tuple[BaseOperatorLink, ...]:
        """What the UI links to from the task: the Data Docs, where the step writes them.

        Airflow asks mapped operators as well, which are no instances of this class and have no `step`.
        """
        return (DataDocsLink(),) if getattr(self, "step", None) == "validate" else ()

    def write_document(self, context: Context) -> RunDocument:
        """Makes the step's run document and puts it into the object store."""
        settings = Settings.from_env()
        package_parts = STEPS[self.step][1]
        slot = max(0, context["ti"].map_index if context["ti"].map_index is not None else 0)
        document = make_document(
            self.step,
            run_name(context),
            run_any_spec(context, self.family),
            self.inputs,
            spec_parts=package_parts,
            code_version=code_version(),
            created_at=datetime.now(UTC),
            slot=slot,
            context={"try_number": context["ti"].try_number, "reason": run_params(context).reason},
        )
        open_store(settings.store_url).put(document.document_key, document.model_dump_json(indent=1).encode())
        return document

    def command(self, document: RunDocument) -> list[str]:
        """The command line of the step's process."""
        uri = open_store(Settings.from_env().store_url).uri(document.document_key)
        return ["-m", STEPS[self.step][0], self.step, "--run", uri]

    def read_result(self, document: RunDocument) -> dict[str, Any] | None:
        """The outputs of the finished step, None while there are none."""
        try:
            record = json.loads(open_store(Settings.from_env().store_url).get(document.result_key))
        except ObjectNotFound:
            return None
        outputs: dict[str, Any] = record["outputs"]
        return outputs

    def failure(self, document: RunDocument, exit_code: int | None) -> AirflowException:
        """The error that fits how the step ended: final errors are not tried again."""
        try:
            record = json.loads(open_store(Settings.from_env().store_url).get(document.error_key))
            place = f"{record['where']}: " if record.get("where") else ""
            advice = f" What to do: {record['hint']}" if record.get("hint") else ""
            text = f"{self.step} failed: {place}{record['message']}{advice}"
        except ObjectNotFound:
            text = (
                f"{self.step} ended with exit status {exit_code} and left no error; its log above has the last it said"
            )
        return AirflowFailException(text) if exit_code == EXIT_FINAL else AirflowException(text)


class LocalStepOperator(StepMixin, BaseOperator):
    """Runs a step as a supervised local process.

    Args:
        family: Name of the family.
        step: One of `STEPS`.
        inputs: The step's inputs; may hold XCom references.
    """

    template_fields: Sequence[str] = ("inputs",)
    ui_color = "#e8f4ea"

    def __init__(self, *, family: str, step: str, inputs: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.family = family
        self.step = step
        self.inputs = inputs
        self._pod: str | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        document = self.write_document(context)
        done = self.read_result(document)
        if done is not None:
            self.log.info(
                "%s: the same work was done before (fingerprint %s); using that result",
                self.step,
                document.fingerprint[:12],
            )
            return done
        ti = context["ti"]
        self._pod = pod_name(self.dag_id, ti.run_id, self.task_id, ti.map_index, document.fingerprint[:12])
        started = pods().start(PodSpec(self._pod, [sys.executable, *self.command(document)]))
        self.log.info("%s pod %s", "started" if started else "found running and attached to", self._pod)
        code = self._follow(self._pod)
        result = self.read_result(document)
        if code != 0 or result is None:
            raise self.failure(document, code)
        return result

    def on_kill(self) -> None:
        if self._pod:
            self.log.warning("stopping pod %s", self._pod)
            pods().stop(self._pod)

    def _follow(self, name: str) -> int | None:
        """Streams the pod's log until it ends; returns its exit status (None: it was lost)."""
        runner, offset, rest = pods(), 0, b""
        while True:
            status = runner.status(name)
            while chunk := runner.logs(name, offset):
                offset += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.log.info("%s", line.decode("utf-8", "replace").rstrip())
            if status.phase in ENDED_PHASES:
                if rest:
                    self.log.info("%s", rest.decode("utf-8", "replace"))
                if status.phase is PodPhase.LOST:
                    self.log.error("pod %s ended without an exit status: it was killed from outside", name)
                return status.exit_code
            time.sleep(_POLL_SECONDS)


def step_class() -> type[BaseOperator]:
    """The operator class for steps in this installation."""
    if Settings.from_env().pod_runner == "local":
        return LocalStepOperator
    from plugins.windtunnel.operators.kubernetes_step import KubernetesStepOperator

    return KubernetesStepOperator


def step_defaults(timeout_minutes: int, pool: str) -> dict[str, Any]:
    """Arguments that every step task shares. Each output is an XCom of its own, so that tasks take what they need."""
    return {"execution_timeout": timedelta(minutes=timeout_minutes), "pool": pool, "multiple_outputs": True}
