"""What Airflow adds to the training DAG: wall time of a run minus the time inside its steps, per task.

A run is repeated with the same parameters on the same data and code. Every step then finds its result by fingerprint,
so nearly all of the wall time is scheduling, starting tasks and passing results on.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, summarise
from include.embedded.airflow_api import AirflowApi, Run, Task
from include.embedded.airflow_settings import apply_settings, read_settings

_FAMILY = "compliance_qa"
_DAG = f"train__{_FAMILY}"
_RUN_SECONDS = 1800.0


def run(quick: bool) -> list[Figure]:
    """Seconds that Airflow adds per task, and the share of a working run that it adds."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["WINDTUNNEL_HOME"] = str(home)
        from include.cli.context import airflow_api
        from include.embedded.stack import Stack
        from include.settings import Settings

        stack = Stack(Settings.from_env())
        stack.start()
        try:
            stack.wait()
            api = airflow_api(stack.settings)
            apply_settings(api, read_settings())
            return _measure(api, home, 2 if quick else 5)
        finally:
            stack.stop()


def _measure(api: AirflowApi, home: Path, repeats: int) -> list[Figure]:
    _wait_for_dag(api)
    api.set_paused(_DAG, False)
    conf = {"profile": "demo", "releasable": False, "trials": 2}
    working, _ = _overhead(api, home, conf)
    repeated = [_overhead(api, home, conf) for _ in range(repeats)]
    per_task = [overhead["seconds"] / overhead["tasks"] for overhead, _ in repeated]
    outside, wall = working["seconds"], working["wall"]
    note = f"{working['tasks']} tasks; a run that works took {wall:.0f} s, {outside:.0f} s of it outside its steps"
    return [
        summarise(
            "orchestration", "seconds that Airflow adds per task of the training DAG", per_task, unit="s", note=note
        )
    ]


def _overhead(api: AirflowApi, home: Path, conf: dict[str, Any]) -> tuple[dict[str, float], Run]:
    """Runs the DAG once: wall seconds, seconds outside of steps, tasks that ran."""
    before = time.time()
    started = api.trigger(_DAG, conf)
    deadline = time.monotonic() + _RUN_SECONDS
    while not (now := api.run(_DAG, started.run_id)) or not now.ended:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{started.run_id} did not end")
        time.sleep(0.2)
    if now.state != "success" or now.start is None or now.end is None:
        raise RuntimeError(f"{started.run_id} ended as {now.state}")
    wall = (now.end - now.start).total_seconds()
    ran = [task for task in api.tasks(_DAG, started.run_id) if task.state == "success"]
    inside = _step_seconds(home, before, ran)
    return {"wall": wall, "seconds": wall - inside, "tasks": len(ran)}, now


def _step_seconds(home: Path, since: float, ran: list[Task]) -> float:
    """Wall seconds inside steps that worked since then; parallel sweep workers count once."""
    seconds: dict[str, float] = {}
    for path in (home / "store" / "steps" / _FAMILY).rglob("result.json"):
        if path.stat().st_mtime >= since:
            record = json.loads(path.read_text())
            seconds[record["step"]] = max(seconds.get(record["step"], 0.0), record["seconds"])
    known = {task.task_id for task in ran}
    return sum(value for step, value in seconds.items() if step in known)


def _wait_for_dag(api: AirflowApi) -> None:
    deadline = time.monotonic() + 120
    while api.dag(_DAG) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Airflow has no DAG {_DAG}")
        time.sleep(0.5)
