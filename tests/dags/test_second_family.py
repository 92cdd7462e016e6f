"""A second family, on another framework: the same DAG files make its DAGs, and their own tasks do its work."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.families.contract import load_code
from include.families.demand_forecasting.features import EXAMPLE
from include.serving.package import fetch, read_package
from include.settings import Settings
from include.spec import all_family_names, load_families, load_family
from include.spec.training import Framework
from include.store.objects import open_store
from tests.data.conftest import Pipeline
from tests.fakes.bicycle_hours import BicycleHours
from tests.plugins.test_runs import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]
FAMILY = "demand_forecasting"


def test_families_of_several_frameworks_have_the_same_tasks(dag_bag: Any) -> None:
    families = {spec.family: spec.trainer.framework for spec in load_families()}
    assert {Framework.LIGHTNING, Framework.SKLEARN} <= set(families.values())
    for kind in ("train", "monitor"):
        shapes = {
            tuple((task.task_id, type(task).__name__, tuple(sorted(task.downstream_task_ids))) for task in dag.tasks)
            for dag in (dag_bag.dags[f"{kind}__{family}"] for family in families)
        }
        assert len(shapes) == 1, kind


def test_nothing_of_airflow_names_a_family_or_a_framework() -> None:
    words = [*all_family_names(), *(framework.value for framework in Framework)]
    for path in [*(ROOT / "dags").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        found = [word for word in words if word in path.read_text()]
        assert not found, f"{path} names {found}"


@pytest.mark.slow
def test_the_task_of_its_dag_trains_it_as_any_other(dag_bag: Any, settings: Settings, tmp_path: Path) -> None:
    """What the tasks before it hand on is handed on here; the step runs as the process that it always is."""
    _write_csv(tmp_path / "rentals" / "hour.csv", load_family(FAMILY).data.sources["rentals"].columns)
    dataset = Pipeline(settings, tmp_path / "rentals", load_family(FAMILY)).run()
    run = SimpleNamespace(run_type="manual", dag_id="d", run_id="r", triggering_user_name=None)
    context = {"dag_run": run, "params": DEFAULTS, "ti": SimpleNamespace(map_index=-1, try_number=1, run_id="r")}
    task = dag_bag.dags[f"train__{FAMILY}"].get_task("fit")
    inputs = {
        "dataset_version": dataset["dataset_version"],
        "dataset_digest": dataset["dataset_digest"],
        "seed": 1,
        "hyperparameters": {"max_epochs": 2, "size": 8},
        "origins": {},
    }
    assert set(task.inputs) == set(inputs)
    task = task.prepare_for_execution()
    task.inputs = inputs
    made = task.execute(context)
    assert (made["steps"], made["export"]["made_by"]) == (2, "sklearn")
    folder = fetch(open_store(settings.store_url), FAMILY, made["digest"], tmp_path / "cache")
    runtime = load_code(read_package(folder).code).load(folder)
    (rentals,) = runtime.predict({name: [value] for name, value in EXAMPLE.items()})["rentals"]
    assert 0 < rentals < 1000


def _write_csv(path: Path, columns: Any) -> None:
    """Ten weeks of made-up rentals, under the names that the source gives its columns."""
    path.parent.mkdir()
    rows = BicycleHours().table("hours").drop_columns(["split"]).to_pylist()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(columns.get(name, name) for name in rows[0])))
        writer.writeheader()
        for number, row in enumerate(rows, 1):
            values = {
                **row,
                "position": number,
                "hour_id": number,
                "holiday": int(row["holiday"]),
                "working_day": int(row["working_day"]),
            }
            writer.writerow({columns.get(name, name): value for name, value in values.items()})
