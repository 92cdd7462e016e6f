"""Tells MLflow about a training while it runs, without ever standing in its way.

Everything happens in a thread of the process that waits for the ranks, once they are forked: a process that is forked
meanwhile has the locks that the thread holds (of an import, of SQLite's memory), and nobody who would ever open them.
If MLflow is slow, training does not wait for it; if it fails, the training goes on, and the log says what was lost.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from include.steps.document import RunDocument
from include.training.plan import OVERRIDES

FINGERPRINT_TAG = "windtunnel.fingerprint"
ADJUSTED_TAG = "windtunnel.adjusted"
_BATCH = 500
_FINISH_SECONDS = 60.0

log = logging.getLogger(__name__)
_Event = dict[str, Any]


class Tracker:
    """One MLflow run for one piece of work: a retry goes on with the run of the attempt before it.

    Use as a context manager around the training; leaving it finishes the run as FINISHED or FAILED.

    Args:
        hyperparameters: As asked for.
        adjusted: What was trained with in their place; a tag of the run.

    Attributes:
        run_id: The MLflow run, or None while it is not known or MLflow failed.
    """

    def __init__(
        self, url: str, document: RunDocument, hyperparameters: Mapping[str, Any], adjusted: Mapping[str, Any]
    ) -> None:
        self.run_id: str | None = None
        self._url = url
        self._document = document
        self._params = _params(document, hyperparameters)
        self._adjusted = dict(adjusted)
        branch = document.adjustment.branch  # what diverged keeps its run; the next course of training has its own
        self._identity = f"{document.fingerprint}/{branch}" if branch else document.fingerprint
        self._events: queue.Queue[_Event | None] = queue.Queue()
        self._status = "FAILED"
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def __enter__(self) -> Tracker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish("FINISHED" if kind is None else "FAILED")

    def begin(self) -> None:
        """No process is forked from now on: the thread may talk. Calling it again does nothing."""
        self._begun.set()

    def metrics(self, event: _Event) -> None:
        """Hands over metrics: `{"step", "at", "metrics": {name: value}}`. Returns at once."""
        self._events.put(event)

    def finish(self, status: str) -> None:
        """Writes what is left and ends the run; waits a minute for it at most. Calling it again does nothing."""
        if self._thread.is_alive():
            self.begin()
            self._status = status
            self._events.put(None)
            self._thread.join(_FINISH_SECONDS)
            if self._thread.is_alive():
                log.warning("MLflow did not take the last metrics within %g s", _FINISH_SECONDS)

    def _run(self) -> None:
        self._begun.wait()
        try:
            self._talk()
        except Exception as error:  # whatever ails MLflow must not reach the training; it is logged
            log.warning("MLflow logging failed, training goes on without it: %s", error)

    def _talk(self) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self._url)
        run, seen = self._open(client)
        client.log_batch(run, params=[Param(name, value) for name, value in self._params.items()])
        if self._adjusted:
            client.set_tag(run, ADJUSTED_TAG, json.dumps(self._adjusted))
        self.run_id = run
        while True:
            events = self._take()
            points = [
                Metric(name, value, int(event["at"] * 1000), event["step"])
                for event in events
                if event is not None and event["step"] > seen
                for name, value in event["metrics"].items()
            ]
            for start in range(0, len(points), _BATCH):
                client.log_batch(run, metrics=points[start : start + _BATCH])
            if None in events:
                client.set_terminated(run, self._status)
                return

    def _take(self) -> list[_Event | None]:
        """At least one event, and what else is waiting."""
        events = [self._events.get()]
        while not self._events.empty():
            events.append(self._events.get())
        return events

    def _open(self, client: Any) -> tuple[str, int]:
        """The run of this work, and the last step that it holds metrics of."""
        experiment = experiment_id(client, self._url, self._document.family)
        found = client.search_runs([experiment], f"tags.`{FINGERPRINT_TAG}` = '{self._identity}'", max_results=1)
        if found:
            run = found[0].info.run_id
            client.update_run(run, status="RUNNING")
            return run, max((point.step for point in client.get_metric_history(run, "loss")), default=-1)
        tags = {
            FINGERPRINT_TAG: self._identity,
            "windtunnel.family": self._document.family,
            "windtunnel.dataset_version": str(self._document.inputs["dataset_version"]),
            "windtunnel.code_version": self._document.code_version,
            "windtunnel.run": self._document.run,
        }
        return client.create_run(experiment, tags=tags, run_name=self._document.run[-200:]).info.run_id, -1


def experiment_id(client: Any, url: str, name: str) -> str:
    """The experiment of a family, made if it is not there.

    A server knows where artifacts go. Without one, MLflow would take the folder that this process was started in: they
    go beside the SQLite file that `url` names.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_beside(url)))
        except MlflowException:  # another process made it in between
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _beside(url: str) -> str | None:
    path = url.removeprefix("sqlite:///")
    return None if path == url else Path(path).with_name("mlflow-artifacts").as_uri()


def _params(document: RunDocument, hyperparameters: Mapping[str, Any]) -> dict[str, str]:
    """Hyperparameters by name, and the model's and trainer's parts of the spec with their prefix."""
    values = {name: value for name, value in hyperparameters.items() if name not in OVERRIDES}
    values |= {f"model.{name}": value for name, value in document.model_spec.model.items()}
    values |= {f"trainer.{name}": value for name, value in document.model_spec.trainer.model_dump(mode="json").items()}
    values |= {"seed": document.inputs.get("seed"), "dataset_digest": document.inputs.get("dataset_digest")}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


class EventReader:
    """Reads the lines that rank 0 appends to a file, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[_Event]:
        """Complete lines that were added since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
