"""Airflow works only when every component has a heartbeat of its own, later than its start."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

import pytest

from include.embedded.health import airflow_works, check

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
REPORT = {
    "metadatabase": {"status": "healthy"},
    **{
        name: {"status": "healthy", f"latest_{name}_heartbeat": NOW.isoformat()}
        for name in ("scheduler", "triggerer", "dag_processor")
    },
}


def test_all_components_alive() -> None:
    assert airflow_works(REPORT, NOW.timestamp() - 5)


def test_a_heartbeat_of_an_earlier_process_does_not_count() -> None:
    assert not airflow_works(REPORT, NOW.timestamp() + 5)


@pytest.mark.parametrize("component", ["metadatabase", "scheduler", "triggerer", "dag_processor"])
def test_one_dead_component_is_enough(component: str) -> None:
    report = copy.deepcopy(REPORT)
    report[component]["status"] = "unhealthy"
    assert not airflow_works(report, 0)


def test_a_component_that_never_had_a_heartbeat() -> None:
    report = copy.deepcopy(REPORT)
    report["triggerer"]["latest_triggerer_heartbeat"] = None
    assert not airflow_works(report, 0)


def test_nobody_answers() -> None:
    assert not check("gateway", "http://127.0.0.1:1/", 0.0)
