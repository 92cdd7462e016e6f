"""What reading all DAG files adds to `import airflow.sdk`: each is a whole process, run in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Figure, summarise

ROOT = Path(__file__).resolve().parent.parent
_BASE = "import airflow.sdk; from airflow.sdk import DAG, task, BaseOperator, BaseSensorOperator, Param, Asset"
_DAGS = _BASE + "\nimport runpy, sys\nfor file in sys.argv[1:]: runpy.run_path(file)"


def _cpu_seconds(code: str, env: dict[str, str]) -> float:
    """Processor seconds (user and system) of a Python process that runs `code` over the DAG files."""
    files = sorted(str(path) for path in (ROOT / "dags").glob("*.py"))
    before = os.times()
    subprocess.run([sys.executable, "-c", code, *files], check=True, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)


def run(quick: bool) -> list[Figure]:
    """Processor seconds added by the DAG files, and their ratio to `import airflow.sdk` alone."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "AIRFLOW_HOME": home, "PYTHONPATH": str(ROOT), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        env |= {"PYTHONPYCACHEPREFIX": f"{home}/bytecode"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        _cpu_seconds(_DAGS, env)  # writes the byte code, as a process that is not the first one finds it
        pairs = [(_cpu_seconds(_BASE, env), _cpu_seconds(_DAGS, env)) for _ in range(3 if quick else 9)]
    return [
        summarise(
            "parse",
            "processor seconds that reading all DAG files adds",
            [dags - base for base, dags in pairs],
            unit="s",
            peer="import airflow.sdk",
            peer_values=[base for base, _ in pairs],
        )
    ]
