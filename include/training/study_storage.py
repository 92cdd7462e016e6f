# ruff: noqa: TID253 - imported by steps and tasks only
"""The database of the studies: SQLite here, PostgreSQL in production."""

from __future__ import annotations

import copy
import random
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from include.errors import WindtunnelError

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 20
RETRIES = 3
POINT = "point"  # of a trial that was listed beforehand: its place in the list
_RUNGS = "completed_rung_"  # what Optuna's successive halving remembers about a trial
_OPEN_TRIES = 20
_FAILS = (SQLAlchemyError, StorageInternalError, RuntimeError, ImportError)


class StudyError(WindtunnelError):
    """The study cannot be opened, or has no result."""


class _SqliteStorage(RDBStorage):
    """Changes a trial's state in a transaction that holds the write lock from its start.

    Optuna reads the state and then writes it, under a lock on the row, which SQLite does not have: two workers could
    both take the same waiting trial.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._changing = threading.local()
        super().__init__(*args, **kwargs)
        event.listen(self.engine, "begin", self._lock_first)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        self._changing.state = True
        try:
            return super().set_trial_state_values(trial_id, state, values)
        finally:
            self._changing.state = False

    def _lock_first(self, connection: Connection) -> None:
        if getattr(self._changing, "state", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def open_storage(url: str) -> RDBStorage:
    """The database; two workers that create its tables at the same time get in each other's way, once.

    Raises:
        StudyError: It cannot be used, or another version of Optuna made its tables.
    """
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for left in reversed(range(_OPEN_TRIES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return (_SqliteStorage if sqlite else RDBStorage)(
                    url,
                    engine_kwargs={"connect_args": {"timeout": 30}} if sqlite else {"pool_pre_ping": True},
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=retry_trial,
                )
        except _FAILS as error:
            _refuse_other_schema(url, parsed)
            if not left or isinstance(error, ImportError):
                raise StudyError(
                    f"the study database cannot be used: {error}",
                    where=parsed.render_as_string(hide_password=True),
                    hint="check WINDTUNNEL_OPTUNA_URL",
                ) from error
            time.sleep(0.05 + random.random() * 0.2)
    raise AssertionError("unreachable")


def _refuse_other_schema(url: str, parsed: URL) -> None:
    """Raises `StudyError` where the tables are of another version of Optuna: trying again would not help."""
    try:
        storage = RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
        found, wanted, known = (
            storage.get_current_version(),
            storage.get_head_version(),
            storage.get_all_versions(),
        )
    except (*_FAILS, AssertionError):  # there are no such tables (yet)
        return
    if found == wanted:
        return
    shown = parsed.render_as_string(hide_password=True)
    older = found in known
    raise StudyError(
        f"the study database has the tables of {'an older' if older else 'a newer'} Optuna ({found}); "
        f"Optuna {optuna.__version__} needs {wanted}",
        where=shown,
        hint=f"stop the sweeps, make a backup, then: optuna storage upgrade --storage '{shown}'"
        if older
        else "run the version of Windtunnel that made them, or set WINDTUNNEL_OPTUNA_URL to another database",
    )


def retry_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueues the parameters of a failed trial again, a few times at most; nobody's trial until somebody takes it."""
    again = copy.deepcopy(trial)
    again.user_attrs = {name: value for name, value in trial.user_attrs.items() if name == POINT}
    # It begins anew, and is to be judged at every rung again.
    again.system_attrs = {name: value for name, value in trial.system_attrs.items() if not name.startswith(_RUNGS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, again)
