"""Follows DAG runs through Airflow's REST API and the steps' progress records."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from include.embedded.airflow_api import AirflowApi, AirflowApiError, Run, Task
from include.errors import WindtunnelError
from include.steps.document import progress_key, run_key
from include.steps.entry import read_json
from include.store.objects import ObjectNotFound, ObjectStore

#: States of a task that is at work.
WORKING = frozenset({"running", "deferred", "up_for_reschedule", "restarting"})
_OUTAGE_SECONDS = 60.0


@dataclass
class Snapshot:
    """A run at one moment.

    Attributes:
        tasks: In the order in which they started; those that have not come last.
        progress: Task name -> its step's latest progress record.
        behind: The run that this one waits for, while it is queued.
    """

    run: Run
    tasks: list[Task]
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    behind: str | None = None

    def task(self, task_id: str) -> Task | None:
        return next((task for task in self.tasks if task.task_id == task_id), None)

    def succeeded(self, task_id: str) -> bool:
        task = self.task(task_id)
        return task is not None and task.state == "success"

    @property
    def failed(self) -> list[Task]:
        """Tasks that failed by themselves."""
        return [task for task in self.tasks if task.state == "failed"]


def look(api: AirflowApi, store: ObjectStore, dag_id: str, run_id: str) -> Snapshot:
    """The run now.

    Raises:
        AirflowApiError: Airflow does not answer, or knows no such run.
    """
    run = api.run(dag_id, run_id)
    if run is None:
        raise AirflowApiError(f"Airflow has no run {run_id!r} of {dag_id}", status=404)
    if run.state == "queued":
        going = [other.run_id for other in api.runs(dag_id) if other.state == "running"]
        return Snapshot(run, [], behind=going[0] if going else None)
    never = datetime.max.replace(tzinfo=UTC)
    tasks = sorted(api.tasks(dag_id, run_id), key=lambda task: (task.start or never, task.task_id, task.map_index))
    progress = {}
    for task in tasks:
        if task.state in WORKING:
            key = progress_key(run_key(dag_id, run_id), task.task_id, max(0, task.map_index))
            try:
                progress[task.name] = read_json(store, key)
            except (ObjectNotFound, ValueError):
                continue
    return Snapshot(run, tasks, progress)


def follow(
    api: AirflowApi,
    store: ObjectStore,
    run: Run,
    show: Callable[[Snapshot], None],
    *,
    each: Callable[[], None] = lambda: None,
    poll_seconds: float = 1.0,
) -> Snapshot:
    """Looks at the run until it has ended; `each` is called before every look and may raise to give up.

    Raises:
        AirflowApiError: Airflow does not answer for a minute.
    """
    last_answer = time.monotonic()
    while True:
        each()
        try:
            snapshot = look(api, store, run.dag_id, run.run_id)
            last_answer = time.monotonic()
        except AirflowApiError as error:
            if error.fields["status"] == 404 or time.monotonic() - last_answer > _OUTAGE_SECONDS:
                raise
            time.sleep(poll_seconds)
            continue
        show(snapshot)
        if snapshot.run.ended:
            return snapshot
        time.sleep(poll_seconds)


class TaskFailed(WindtunnelError):
    """A task of a followed run failed; `fields["tail"]` holds the end of its log."""


def failure(api: AirflowApi, snapshot: Snapshot, lines: int = 20) -> TaskFailed:
    """The error that tells which task of a failed run failed, with the end of its log."""
    run = snapshot.run
    if not snapshot.failed:
        hint = f"look at it in the Airflow UI: {api.url}/dags/{run.dag_id}/runs/{run.run_id}"
        return TaskFailed(
            f"run {run.run_id} of {run.dag_id} ended as {run.state}", where=run.dag_id, hint=hint, tasks=[]
        )
    first = snapshot.failed[0]
    tail = "\n".join(line[:400] for line in api.log(run.dag_id, run.run_id, first)[-lines:])
    return TaskFailed(
        f"task {first.name} of {run.dag_id} failed after {first.try_number} tries",
        where=f"{run.dag_id}/{run.run_id}/{first.name}",
        hint="mend what the log says, then clear the task in the Airflow UI or start again: finished work is kept",
        tail=tail,
        tasks=[task.name for task in snapshot.failed],
    )
