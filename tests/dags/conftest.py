"""One DagBag for all tests of this folder: reading the DAG files takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def dag_bag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """All DAGs of the project, read from the files as Airflow reads them."""
    home = tmp_path_factory.mktemp("airflow")
    before = dict(os.environ)
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="False",
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        PYTHONPATH=str(ROOT),
    )
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(str(ROOT / "dags"))
    os.environ.clear()
    os.environ.update(before)
