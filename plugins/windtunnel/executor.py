"""Airflow's LocalExecutor, for tasks that defer for seconds.

A deferred task that is resumed has the same key as before, try number included. When its trigger fires before the
process that deferred has been reaped, Airflow 3.3's LocalExecutor reports the end of that process while the task is
queued again; the scheduler takes it for the end of the resumed task and fails a task that is well. Here an end counts
only when nothing that was started later under the same key is still out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.executors import local_executor
from airflow.utils.state import TaskInstanceState

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecutorWorkload
    from airflow.executors.workloads.types import WorkloadKey, WorkloadState
    from airflow.models.taskinstance import TaskInstance

_ENDED = frozenset({TaskInstanceState.SUCCESS, TaskInstanceState.FAILED})


class LocalExecutor(local_executor.LocalExecutor):
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._out: Counter[WorkloadKey] = Counter()

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        self._out.update(workload.key for workload in workload_list)
        super()._process_workloads(workload_list)

    def change_state(
        self, key: WorkloadKey, state: WorkloadState, info: Any = None, remove_running: bool = True
    ) -> None:
        if state in _ENDED and key in self._out:
            self._out[key] -= 1
            if self._out[key] > 0:
                self.log.info("The end of %s before it was resumed: the resumed task goes on", key)
                return
            del self._out[key]
        super().change_state(key, state, info, remove_running)

    def has_task(self, task_instance: TaskInstance) -> bool:
        """Whether the task is queued here, or was started and has not ended."""
        return bool(super().has_task(task_instance)) or task_instance.key in self._out
