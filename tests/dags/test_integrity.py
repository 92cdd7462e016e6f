"""What every DAG must have: it loads, someone owns it, it is documented, it retries, its form is validated."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from include.spec import all_family_names, family_names, load_any_family, load_family

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    *("torch", "lightning", "mlflow", "great_expectations", "evidently", "pandas", "kubernetes", "onnxruntime"),
    *("optuna", "transformers", "deltalake", "sqlalchemy", "pyarrow", "numpy"),
}
KINDS = ("train", "release", "monitor", "drill", "steer")

# Runs in a process of its own: what the DAG files add to `import airflow.sdk`, and what they call while they are read.
_PROBE = """
import json, sys, time
import airflow.sdk
from airflow.sdk import DAG, task, BaseOperator, BaseSensorOperator, Param, Asset, CronTriggerTimetable
before, touched = set(sys.modules), []
def hook(event, arguments):
    if event == "open":
        touched.append([str(arguments[0]), str(arguments[1])])
    elif event in ("socket.connect", "subprocess.Popen"):
        touched.append([event, "w"])
sys.addaudithook(hook)
started = time.process_time()
import runpy
for file in sys.argv[1:]:
    runpy.run_path(file)
seconds = time.process_time() - started
modules = sorted({name.split(".")[0] for name in set(sys.modules) - before})
print(json.dumps({"modules": modules, "touched": touched, "seconds": seconds}))
"""


@pytest.fixture(scope="session")
def dags(dag_bag: Any) -> dict[str, Any]:
    return dict(dag_bag.dags)


@pytest.fixture(scope="session")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("probe")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(home)}
    files = sorted(str(path) for path in (ROOT / "dags").glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *files], capture_output=True, text=True, env=env, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_all_files_load(dag_bag: Any) -> None:
    assert dag_bag.import_errors == {}


def test_all_dags_can_be_stored_for_the_scheduler_and_the_ui(dags: dict[str, Any]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dags.values():
        stored = DagSerialization.to_dict(dag)
        assert {task["__var"]["task_id"] for task in stored["dag"]["tasks"]} == set(dag.task_ids)


def test_every_family_has_one_dag_of_each_kind(dags: dict[str, Any]) -> None:
    with_model = family_names()
    only_data = set(all_family_names()) - set(with_model)
    assert set(dags) == {
        *(f"{kind}__{family}" for kind in KINDS for family in with_model),
        *(f"data__{family}" for family in only_data),
        *(f"review__{family}" for family in all_family_names() if load_any_family(family).data.qa),
    }


def test_a_family_that_is_only_data_is_ingested_validated_and_published(dags: dict[str, Any]) -> None:
    for family in set(all_family_names()) - set(family_names()):
        dag = dags[f"data__{family}"]
        assert [task.task_id for task in dag.topological_sort()] == ["plan", "ingest", "validate", "publish"]
        assert dag.is_paused_upon_creation
        assert dag.timetable.expression == load_any_family(family).schedule.ingest
        assert set(dag.params) == {"profile", "source", "since", "until", "reason"}


def test_owners_tags_docs_retries_timeouts_and_callbacks(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        kind, _, family = dag.dag_id.partition("__")
        assert {"windtunnel", kind, family} <= set(dag.tags)
        assert len(dag.doc_md) > 100, dag.dag_id
        assert dag.max_active_runs == 1
        for task in dag.tasks:
            place = f"{dag.dag_id}.{task.task_id}"
            assert task.owner == load_any_family(family).owner.team, place
            assert task.doc_md, f"{place} has no doc"
            assert task.on_failure_callback, f"{place} tells nobody when it fails"
            assert task.retries >= 2, place
            waits_deferred = type(task).__name__ in {"StageOperator", "DataVolumeSensor"}
            assert waits_deferred or task.execution_timeout is not None, f"{place} could hang for ever"


def test_heavy_steps_use_pools_that_the_settings_file_makes(dags: dict[str, Any]) -> None:
    import yaml

    applied = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())
    pools = {pool["pool_name"] for pool in applied["airflow"]["pools"]} | {"default_pool"}
    used = {task.pool for dag in dags.values() for task in dag.tasks}
    assert used <= pools
    assert {"data", "training", "release"} <= used


def test_the_form_accepts_its_own_defaults_and_refuses_nonsense(dags: dict[str, Any]) -> None:
    from airflow.sdk.definitions._internal.types import is_arg_set

    for dag in dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            if is_arg_set(param.value):
                assert param.value != "", f"{name}: the form shows an empty text as an error"
                jsonschema.validate(param.value, param.schema)
            else:  # a person must say it
                assert not dag.timetable.can_be_scheduled
            assert param.schema.get("title") and param.description, f"{dag.dag_id}: {name} is not explained"
    train = dags["train__compliance_qa"].params
    nonsense = {"profile": "none", "since": "monday", "seed": -1, "trials": 0, "attempt": 9, "adjust": {"a": "b"}}
    for name, wrong in nonsense.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, train.get_param(name).schema)


def test_the_spine_is_in_order(dags: dict[str, Any]) -> None:
    order = [task.task_id for task in dags["train__compliance_qa"].topological_sort()]
    spine = ["plan", "ingest", "validate", "publish", "plan_sweep", "sweep", "choose", "fit", "evaluate", "gate"]
    assert [task for task in order if task in spine] == spine
    release = dags["release__compliance_qa"]
    stages = [stage.name for stage in load_family("compliance_qa").release.stages]
    assert [t.task_id for t in release.topological_sort() if t.task_id in stages] == stages
    assert release.get_task("rollback").trigger_rule == "one_failed"


def test_only_a_family_that_asks_for_it_waits_for_a_person(dags: dict[str, Any]) -> None:
    from dags.release import release_dag

    assert not dags["release__compliance_qa"].has_task("approve")
    spec = load_family("compliance_qa")
    asking = spec.release.model_copy(update={"approval": True, "approval_hours": 2.0})
    approve = release_dag(spec.model_copy(update={"release": asking})).get_task("approve")
    assert (approve.upstream_task_ids - {"select"}, approve.downstream_task_ids) == ({"shadow"}, {"canary", "rollback"})
    assert (approve.defaults, approve.response_timeout.total_seconds()) == (["Reject"], 7200)


def test_only_a_passed_gate_leads_to_an_announcement(dags: dict[str, Any]) -> None:
    dag = dags["train__compliance_qa"]
    upstream = dag.get_task("announce").get_flat_relative_ids(upstream=True)
    assert {"gate", "register", "may_announce"} <= upstream
    outlets = {task.task_id: [asset.uri for asset in task.outlets] for task in dag.tasks if task.outlets}
    assert outlets == {
        "announce": ["windtunnel://compliance_qa/candidate"],
        "validate": ["windtunnel://compliance_qa/review"],
        "retry": ["windtunnel://compliance_qa/retrain"],
    }


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    assert HEAVY.isdisjoint(parsed["modules"])


def test_parsing_does_no_io_but_reading_specs(parsed: dict[str, Any]) -> None:
    touched = [
        (file, mode)
        for file, mode in parsed["touched"]
        if not (file.endswith("family.yaml") and mode.startswith("r")) and not (file.endswith((".py", ".pyc", ".pyi")))
    ]
    assert touched == []


def test_parsing_is_cheap(parsed: dict[str, Any]) -> None:
    """The promise is 0.5 s over `import airflow.sdk`; the processor time leaves room for a busy machine."""
    assert parsed["seconds"] < 1.0


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_dag_files_hold_no_logic(path: Path) -> None:
    """One builder and one loop over the specs: an `if` may only ask for what the spec says."""
    tree = ast.parse(path.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    loops = [node for node in tree.body if isinstance(node, ast.For)]
    assert len(functions) == 1 and len(loops) == 1
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Try | ast.While)]


def test_a_review_asks_as_many_people_as_the_spec_wants_and_then_counts(dags: dict[str, Any]) -> None:
    dag, review = dags["review__compliance_qa"], load_family("compliance_qa").data.qa.review
    seats = [task for task in dag.tasks if type(task).__name__ == "ReviewOperator"]
    assert len(seats) == review.reviewers == 3
    assert all(seat.response_timeout.total_seconds() == review.hours * 3600 for seat in seats)
    assert all(seat.defaults == ["Leave them in quarantine"] for seat in seats), "silence must release nothing"
    assert set(dag.get_task("settle").upstream_task_ids) >= {seat.task_id for seat in seats}


def test_the_form_and_the_command_know_all_faults_of_a_drill(dags: dict[str, Any]) -> None:
    from include.cli.drill import FAULTS
    from include.release.drill.faults import Fault

    known = sorted(fault.value for fault in Fault)
    assert sorted(FAULTS) == known
    assert sorted(dags["drill__compliance_qa"].params.get_param("fault").schema["enum"]) == sorted(["in turn", *known])


def test_a_drill_runs_when_the_spec_says_so_and_else_by_hand(dags: dict[str, Any]) -> None:
    for family in family_names():
        wanted = load_family(family).release.drill.schedule
        assert getattr(dags[f"drill__{family}"].timetable, "expression", None) == wanted
