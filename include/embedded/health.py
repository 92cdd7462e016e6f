"""Whether a service of the laptop stack works: it answers, and, for Airflow, all its components are alive."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_BUILD_SECONDS = 60.0
_COMPONENTS = {
    "scheduler": "latest_scheduler_heartbeat",
    "dag_processor": "latest_dag_processor_heartbeat",
    "triggerer": "latest_triggerer_heartbeat",
}


def check(name: str, url: str, since: float, timeout: float = 2.0) -> bool:
    """Whether the service answers well now.

    Args:
        since: When its process started (seconds since the epoch): a heartbeat from before that is an earlier process's.
    """
    body = _get(url, timeout)
    if body is None or name != "airflow":
        return body is not None
    # Tasks talk to the execution API. It builds itself at its first request, for seconds: now, not at the first task.
    if _get(f"{url.split('/api/')[0]}/execution/health", _BUILD_SECONDS) is None:
        return False
    try:
        return airflow_works(json.loads(body), since)
    except (ValueError, KeyError, TypeError):
        return False


def _get(url: str, timeout: float) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            body: bytes = response.read()
            return body
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return None


def airflow_works(report: Mapping[str, Any], since: float) -> bool:
    """Whether Airflow's health report shows every component alive, with a heartbeat later than `since`."""
    if report["metadatabase"]["status"] != "healthy":
        return False
    for component, field in _COMPONENTS.items():
        beat = report[component][field]
        if report[component]["status"] != "healthy" or not beat or datetime.fromisoformat(beat).timestamp() < since:
            return False
    return True
