"""Runs a heavy step outside of the Airflow worker: in a Kubernetes pod, or as a supervised process of this machine.

Which of the two is configuration (`WINDTUNNEL_POD_RUNNER`); the DAG files do not know. Both write the same run
document, stream the same log, and return the same small record through XCom. Both find a pod that still runs when
Airflow's worker died under them.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout

from include.failures.classify import Evidence
from include.failures.policy import Action
from include.failures.records import FailureRecord, adjustment_of, find_failure, read_failures, record_failure
from include.pods.contract import ENDED_PHASES, PodLimits, PodPhase, PodSpec, PodStatus
from include.pods.local import LocalPodRunner, pod_name
from include.pods.warm import WarmStarts
from include.settings import Settings
from include.spec.quantities import amount, cores
from include.spec.resources import ResourcesSpec
from include.steps.document import RunDocument, make_document
from include.steps.fingerprint import code_version
from include.steps.parts import SPEC_PARTS
from include.store.objects import ObjectNotFound, ObjectStore, open_store
from plugins.windtunnel.connections import connection_variables
from plugins.windtunnel.links import DataDocsLink, DataQualityLink, SweepLink
from plugins.windtunnel.operators.failed import StepRetryPolicy, text_of, to_exception
from plugins.windtunnel.operators.local_gang import LocalGang
from plugins.windtunnel.runs import run_any_spec, run_name, run_params

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Step -> package that runs it.
PACKAGES = {
    "ingest": "include.data",
    "validate": "include.data",
    "publish": "include.data",
    "sweep": "include.training",
    "fit": "include.training",
    "evaluate": "include.evaluation",
    "drift": "include.monitoring",
    "drill": "include.release",
}
_POLL_SECONDS = 0.25

logger = logging.getLogger(__name__)


def pods() -> LocalPodRunner:
    """The local pods of this installation."""
    settings = Settings.from_env()
    warm = WarmStarts(settings.home / "warm", settings.warm_minutes) if settings.warm_minutes else None
    return LocalPodRunner(settings.home / "pods", warm)


def local_limits(resources: ResourcesSpec) -> PodLimits:
    """What a local pod of the family may use, where this installation holds local pods to anything."""
    if not Settings.from_env().local_limits:
        return PodLimits()
    return PodLimits(int(amount(resources.memory)), cores(resources.cpu))


class StepMixin:
    """What both operators share: the run document before, the result after."""

    family: str
    step: str
    inputs: dict[str, Any]

    @property
    def operator_extra_links(self) -> tuple[BaseOperatorLink, ...]:
        """What the UI links to from the task: the page that the step writes.

        Airflow asks mapped operators as well, which are no instances of this class and have no `step`.
        """
        links: dict[str, BaseOperatorLink] = {
            "validate": DataDocsLink(),
            "publish": DataQualityLink(),
            "fit": SweepLink(),
        }
        step = getattr(self, "step", None)
        return (links[step],) if step in links else ()

    def write_document(self, context: Context) -> RunDocument:
        """Makes the step's run document and puts it into the object store."""
        settings = Settings.from_env()
        slot = max(0, context["ti"].map_index if context["ti"].map_index is not None else 0)
        document = make_document(
            self.step,
            run_name(context),
            run_any_spec(context, self.family),
            self.inputs,
            spec_parts=SPEC_PARTS[self.step],
            code_version=code_version(),
            created_at=datetime.now(UTC),
            slot=slot,
            context={
                "try_number": context["ti"].try_number,
                "reason": run_params(context).reason,
                "runner": settings.pod_runner,
            },
        )
        store = open_store(settings.store_url)
        adjustment = adjustment_of(read_failures(store, document.output))
        document = document.model_copy(update={"adjustment": adjustment})
        store.put(document.document_key, document.model_dump_json(indent=1).encode())
        return document

    def command(self, document: RunDocument) -> list[str]:
        """The command line of the step's process."""
        uri = open_store(Settings.from_env().store_url).uri(document.document_key)
        return ["-m", PACKAGES[self.step], self.step, "--run", uri]

    def read_result(self, document: RunDocument) -> dict[str, Any] | None:
        """The outputs of the finished step, None while there are none."""
        record = _read(open_store(Settings.from_env().store_url), document.result_key)
        return None if record is None else dict(record["outputs"])

    def settle(
        self, document: RunDocument, attempt: str, evidence: Evidence, usage: dict[str, Any] | None = None
    ) -> FailureRecord:
        """Records how an attempt ended, and says so in the log."""
        store = open_store(Settings.from_env().store_url)
        evidence = replace(evidence, error=_read(store, document.error_key))
        record = record_failure(store, document, attempt, evidence, at=datetime.now(UTC), usage=usage)
        logger.error("%s", text_of(self.step, record))
        return record

    def failure(self, record: FailureRecord) -> AirflowException:
        """What the task raises because of a bad end."""
        return to_exception(self.step, record, datetime.now(UTC))


class LocalStepOperator(StepMixin, BaseOperator):
    """Runs a step as a supervised local process.

    The pod's name follows from the run, the task and the work, so that a task that comes back knows its pod without
    having noted anything. Airflow's `ResumableJobMixin` notes an id after the job was submitted: a worker that dies in
    between starts it twice. It also streams no log, and starts a job that failed again without asking why.

    Args:
        family: Name of the family.
        step: One of `PACKAGES`.
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
        self._gang: LocalGang | None = None

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
        ti, runner = context["ti"], pods()
        self._pod = pod_name(self.dag_id, ti.run_id, self.task_id, ti.map_index, document.fingerprint[:12])
        document = self._look_back(context, document)
        secrets = connection_variables(document.spec) if self.step == "ingest" else {}
        command = [sys.executable, *self.command(document)]
        limits = local_limits(document.spec.resources)
        gang = self._gang = LocalGang(runner, self._pod, document)
        env: dict[str, str] = {}
        if runner.status(self._pod).phase is not PodPhase.RUNNING:
            open_store(Settings.from_env().store_url).delete(document.error_key)
            env = gang.start(command, limits)
        started = runner.start(PodSpec(self._pod, command, env=env, secrets=secrets, limits=limits))
        self.log.info("%s pod %s", "started" if started else "found running and attached to", self._pod)
        if not document.adjustment.is_none:
            self.log.info("differs from what was asked for: %s", document.adjustment)
        try:
            status = self._follow(self._pod)
        except AirflowTaskTimeout:
            runner.stop(self._pod)
            gang.stop()
            self._settle(document, runner.status(self._pod), timed_out=True)
            raise
        result = self.read_result(document)
        if status.phase is not PodPhase.SUCCEEDED or result is None:
            raise self.failure(self._settle(document, status))
        gang.stop()
        return result

    def _look_back(self, context: Context, document: RunDocument) -> RunDocument:
        """Records a bad end that nobody saw because Airflow's worker died, too; the document of what is to be done."""
        assert self._pod is not None
        store, status = open_store(Settings.from_env().store_url), pods().status(self._pod)
        if status.phase not in (PodPhase.FAILED, PodPhase.LOST):
            return document
        if find_failure(store, document.output, status.attempt) is None:
            record = self._settle(document, status)
            if record.action is Action.FAIL:
                raise self.failure(record)
        return self.write_document(context)

    def _settle(self, document: RunDocument, status: PodStatus, timed_out: bool = False) -> FailureRecord:
        assert self._pod is not None
        evidence = Evidence(
            exit_code=status.exit_code,
            log_tail=pods().tail(self._pod),
            lost=status.phase is PodPhase.LOST,
            deleted=status.stopped,
            timed_out=timed_out,
            oom_kills=status.oom_kills,
        )
        gang = self._gang or LocalGang(pods(), self._pod, document)
        evidence, usage = gang.telling(evidence, asdict(status.usage) if status.usage else None)
        gang.stop()
        return self.settle(document, status.attempt, evidence, usage)

    def on_kill(self) -> None:
        if self._pod:
            self.log.warning("stopping pod %s", self._pod)
            pods().stop(self._pod)
        if self._gang:
            self._gang.stop()

    def _follow(self, name: str) -> PodStatus:
        """Streams the pod's log until it ends; returns how it ended."""
        runner, offset, rest = pods(), 0, b""
        while True:
            status = runner.status(name)
            while chunk := runner.logs(name, offset):
                offset += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.log.info("%s", line.decode("utf-8", "replace").rstrip())
            if self._gang:
                self._gang.check()
            if status.phase in ENDED_PHASES:
                if rest:
                    self.log.info("%s", rest.decode("utf-8", "replace"))
                if status.phase is PodPhase.LOST:
                    self.log.error("pod %s ended without an exit status: it was killed from outside", name)
                return status
            time.sleep(_POLL_SECONDS)


def _read(store: ObjectStore, key: str) -> dict[str, Any] | None:
    """The JSON object under `key`; None where there is none."""
    try:
        found: dict[str, Any] = json.loads(store.get(key))
    except ObjectNotFound:
        return None
    return found


def step_class() -> type[BaseOperator]:
    """The operator class for steps in this installation."""
    if Settings.from_env().pod_runner == "local":
        return LocalStepOperator
    from plugins.windtunnel.operators.kubernetes_step import KubernetesStepOperator

    return KubernetesStepOperator


def step_defaults(timeout_minutes: int, pool: str) -> dict[str, Any]:
    """Arguments that every step task shares. Each output is an XCom of its own, so that tasks take what they need."""
    return {
        "execution_timeout": timedelta(minutes=timeout_minutes),
        "pool": pool,
        "multiple_outputs": True,
        "retry_policy": StepRetryPolicy(),
    }
