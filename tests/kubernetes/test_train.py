"""The whole training DAG of a family, every step of it in a pod: from deliveries to a registered candidate."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plain_airflow import PlainAirflow
from include.embedded.airflow_settings import apply_settings, read_settings
from tests.kubernetes.cluster import ROOT, Site
from tests.kubernetes.conftest import environment_on

DAG_ID = "train__compliance_qa"
STEPS = {"ingest", "validate", "publish", "sweep", "fit", "evaluate"}
SECONDS = 2400

pytestmark = pytest.mark.slow


def test_a_family_goes_from_data_to_a_registered_candidate_in_pods(site: Site, tmp_path: Path, code: Path) -> None:
    home = tmp_path / "home"
    environment = {
        **environment_on(site, tmp_path, code),
        "WINDTUNNEL_HOME": str(home),
        "WINDTUNNEL_PROFILE": "demo",
        "HF_HUB_OFFLINE": "1",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    }
    seen: dict[str, set[str]] = {}
    with PlainAirflow(home, ROOT / "dags", environment) as airflow:
        apply_settings(airflow.api, read_settings())
        airflow.until(lambda: airflow.api.dag(DAG_ID), SECONDS, "DAG")
        airflow.api.set_paused(DAG_ID, False)
        run = airflow.api.trigger(DAG_ID, {"profile": "demo", "releasable": False, "trials": 2})

        def ended() -> str | None:
            for pod in site.pods():
                seen.setdefault(pod["metadata"]["labels"]["windtunnel/step"], set()).add(pod["metadata"]["uid"])
            now = airflow.api.run(DAG_ID, run.run_id)
            return now.state if now and now.ended else None

        state = airflow.until(ended, SECONDS, "end of the run")
        tasks = {task.name: task.state for task in airflow.api.tasks(DAG_ID, run.run_id)}
    assert state == "success", tasks
    assert tasks["register"] == "success"
    assert set(seen) == STEPS and len(seen["sweep"]) == 2, seen
    assert all(len(pods) == 1 for step, pods in seen.items() if step != "sweep"), seen
