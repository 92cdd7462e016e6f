"""What happens when a task has failed for good: an alert for the person on call, in the log and the object store."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.errors import WindtunnelError, clip
from include.settings import Settings
from include.store.objects import open_store

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = logging.getLogger(__name__)


def on_failure(context: Context) -> None:
    """Writes an alert record `alerts/<day>/<time>-<dag>-<task>.json` and logs it."""
    ti = context["ti"]
    now = datetime.now(UTC)
    record: dict[str, Any] = {
        "at": now.isoformat(),
        "dag": ti.dag_id,
        "run": ti.run_id,
        "task": ti.task_id,
        "map_index": ti.map_index,
        "try_number": ti.try_number,
        "error": clip(context.get("exception") or "unknown"),
    }
    logger.error("ALERT %s.%s failed in run %s: %s", ti.dag_id, ti.task_id, ti.run_id, record["error"])
    key = f"alerts/{now:%Y-%m-%d}/{now:%H%M%S%f}-{ti.dag_id}-{ti.task_id}.json"
    try:
        open_store(Settings.from_env().store_url).put(key, json.dumps(record, indent=1).encode())
    except WindtunnelError as error:  # the alert is in the log already; a broken store must not hide the first error
        logger.error("the alert could not be stored: %s", error)
