"""Whether a service of the laptop stack works: it answers, and, for Airflow, all its components are alive."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Any

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
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            body = response.read()
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False
    if name != "airflow":
        return True
    try:
        return airflow_works(json.loads(body), since)
    except (ValueError, KeyError, TypeError):
        return False


def airflow_works(report: Mapping[str, Any], since: float) -> bool:
    """Whether Airflow's health report shows every component alive, with a heartbeat later than `since`."""
    if report["metadatabase"]["status"] != "healthy":
        return False
    for component, field in _COMPONENTS.items():
        beat = report[component][field]
        if report[component]["status"] != "healthy" or not beat or datetime.fromisoformat(beat).timestamp() < since:
            return False
    return True
