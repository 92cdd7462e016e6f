"""A failure record in Airflow's terms.

A try that must not use up a retry is rescheduled: Airflow keeps the try's number for a task in `up_for_reschedule`, of
whatever operator. A retry policy could not do that (it may end retries early and never exceeds them); it gives the
ordinary retries the delay that fits the failure, and the reason that the UI shows.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import RetryPolicy
from airflow.sdk.definitions.retry_policy import RetryDecision
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException

from include.errors import clip
from include.failures.policy import Action
from include.failures.records import FailureRecord

if TYPE_CHECKING:
    from airflow.sdk import Context


class StepFailed(AirflowException):
    """A step ended badly, and an ordinary retry follows if one is left."""

    def __init__(self, text: str, pause: timedelta | None = None) -> None:
        super().__init__(text)
        self.pause = pause


class StepRetryPolicy(RetryPolicy):
    """The delay and the reason that the failure's record gives."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if isinstance(exception, StepFailed):
            return RetryDecision.retry(exception.pause, clip(exception, 500))
        return RetryDecision.default()


def text_of(step: str, record: FailureRecord) -> str:
    """What happened, what to do, and what is done."""
    return f"{step} failed: {record.text} [{record.ending.value}: {record.reason}]"


def to_exception(step: str, record: FailureRecord, now: datetime) -> AirflowException:
    """What the task raises so that Airflow does what the record says."""
    text = text_of(step, record)
    pause = None if record.pause_seconds is None else timedelta(seconds=record.pause_seconds)
    if record.action is Action.FAIL:
        return AirflowFailException(text)
    if record.action is Action.AGAIN:
        return AirflowRescheduleException(now + (pause or timedelta()))
    return StepFailed(text, pause)
