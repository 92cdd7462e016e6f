"""What reading all DAG files adds to `import airflow.sdk`, in the same process; each repeat is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Figure, summarise

ROOT = Path(__file__).resolve().parent.parent
_BASE = "import airflow.sdk; from airflow.sdk import DAG, task, BaseOperator, BaseSensorOperator, Param, Asset"
_DAGS = f"""
import time
{_BASE}
base = time.process_time()
import runpy, sys
for file in sys.argv[1:]:
    runpy.run_path(file)
sys.stderr.write(f"\\n{{base}} {{time.process_time() - base}}")
"""


def _cpu_seconds(env: dict[str, str]) -> tuple[float, float]:
    """Processor seconds of Python with `import airflow.sdk`, and those that the DAG files add to it."""
    files = sorted(str(path) for path in (ROOT / "dags").glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", _DAGS, *files], check=True, cwd=ROOT, env=env, capture_output=True, text=True
    )
    base, added = done.stderr.splitlines()[-1].split()
    return float(base), float(added)


def run(quick: bool) -> list[Figure]:
    """Processor seconds added by the DAG files, and their ratio to `import airflow.sdk` alone."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "AIRFLOW_HOME": home, "PYTHONPATH": str(ROOT), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        env |= {"PYTHONPYCACHEPREFIX": f"{home}/bytecode"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        _cpu_seconds(env)  # writes the byte code, as a process that is not the first one finds it
        pairs = [_cpu_seconds(env) for _ in range(3 if quick else 9)]
    return [
        summarise(
            "parse",
            "processor seconds that reading all DAG files adds",
            [added for _, added in pairs],
            unit="s",
            peer="import airflow.sdk",
            peer_values=[base for base, _ in pairs],
        )
    ]
