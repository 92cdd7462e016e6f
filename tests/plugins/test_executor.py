"""The executor with tasks that are resumed before the process that deferred them was reaped."""

from __future__ import annotations

from multiprocessing import SimpleQueue, Value
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

from plugins.windtunnel.executor import LocalExecutor

KEY = TaskInstanceKey(dag_id="release__one", task_id="shadow", run_id="manual", try_number=1, map_index=-1)
TASK: Any = SimpleNamespace(id="01", key=KEY)


@pytest.fixture
def executor() -> LocalExecutor:
    """An executor whose workers are played by the test."""
    made = LocalExecutor(parallelism=2)
    made.activity_queue, made.result_queue, made.workers = SimpleQueue(), SimpleQueue(), {}
    made._unread_messages = Value("I", 0)
    made._check_workers = lambda: None
    return made


def start(executor: LocalExecutor) -> None:
    workload: Any = SimpleNamespace(key=KEY)
    executor.queued_tasks[KEY] = workload
    executor._process_workloads([workload])


def end(executor: LocalExecutor, state: TaskInstanceState = TaskInstanceState.SUCCESS) -> None:
    executor.result_queue.put((KEY, state, None))
    executor.sync()


def test_the_end_of_the_deferring_process_is_not_the_end_of_the_resumed_task(executor: LocalExecutor) -> None:
    start(executor)
    start(executor)  # the trigger fired: the same key again
    end(executor)
    assert KEY not in executor.event_buffer
    assert executor.has_task(TASK)
    end(executor)
    assert executor.event_buffer[KEY] == (TaskInstanceState.SUCCESS, None)
    assert not executor.has_task(TASK)


@pytest.mark.parametrize("state", [TaskInstanceState.SUCCESS, TaskInstanceState.FAILED])
def test_the_only_end_counts(executor: LocalExecutor, state: TaskInstanceState) -> None:
    start(executor)
    assert executor.has_task(TASK)
    end(executor, state)
    assert executor.event_buffer[KEY] == (state, None)
    assert not executor.has_task(TASK)


def test_an_end_that_the_executor_does_not_know_is_passed_on(executor: LocalExecutor) -> None:
    end(executor, TaskInstanceState.FAILED)
    assert executor.event_buffer[KEY] == (TaskInstanceState.FAILED, None)
