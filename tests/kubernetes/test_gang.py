"""Pods that train one model together, for real: the same model as one pod makes, and all run or none is left."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, AirflowRescheduleException

from include.failures.endings import Ending
from include.failures.policy import Action
from include.settings import Settings
from include.spec import load_family
from include.spec.models import FamilySpec
from include.steps.parts import SPEC_PARTS
from plugins.windtunnel.operators import kubernetes_step
from plugins.windtunnel.operators import step as step_module
from tests.data.conftest import Pipeline
from tests.kubernetes.conftest import Made, Steps, wait_for
from tests.training.conftest import small_spec

_POD = {
    "cpu": "400m",
    "memory": "2Gi",
    "ephemeral_storage": "1Gi",
    "shared_memory": "256Mi",
    "grace_seconds": 60,
    "pending_minutes": 8,
}
_TRAINER = {"max_epochs": 3, "checkpoint_every_steps": 5}  # of 12 steps each


#: Real trainings, of which a crowded machine makes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def trainings(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Steps whose pods run the training package on the small rulebook."""
    monkeypatch.setitem(step_module.PACKAGES, "fit", "tests.fakes.training_process")
    monkeypatch.setitem(step_module.SPEC_PARTS, "fit", SPEC_PARTS["fit"])
    path = Path(Settings.from_env().pod_template)
    template = yaml.safe_load(path.read_text())
    template["spec"]["containers"][0]["env"].append({"name": "MLFLOW_TRACKING_URI", "value": "http://127.0.0.1:9"})
    path.write_text(yaml.safe_dump(template))
    return steps


def _make(steps: Steps, monkeypatch: pytest.MonkeyPatch, spec: FamilySpec, version: str = "1.0.0") -> Made:
    parsed = spec.model_copy(update={"resources": spec.resources.model_validate(_POD)})
    made = steps.make("trains", dataset_version=version, seed=1, hyperparameters={"learning_rate": 0.001})
    for module in (kubernetes_step, step_module):
        monkeypatch.setattr(module, "run_any_spec", lambda context, family: parsed)
    return made


def _pods(steps: Steps, made: Made) -> dict[str, str]:
    """Phase of each of the task's pods by name."""
    mine = [pod for pod in steps.site.pods() if pod["metadata"]["labels"]["run_id"] == made[1]["run_id"]]
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in mine}


def _checkpoints(steps: Steps, made: Made) -> list[str]:
    operator, context = made
    return list(steps.store.keys(f"{operator.write_document(context).output}/checkpoints/step-"))


def test_two_pods_train_what_one_does_and_go_on_after_one_is_deleted(
    trainings: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _make(trainings, monkeypatch, small_spec(trainer={**_TRAINER, "devices": 2}))
    expected = trainings.run(one)
    assert expected["steps"] == 36

    made = _make(trainings, monkeypatch, small_spec(trainer={**_TRAINER, "devices": 1, "nodes": 2}))
    running: Future[Any] = trainings.begin(made)
    wait_for(lambda: _checkpoints(trainings, made), 400)
    assert set(_pods(trainings, made).values()) == {"Running"}
    helper = next(name for name in _pods(trainings, made) if name.endswith("-node-1"))
    trainings.site.kubectl("delete", "pod", helper, "--wait=false")
    error = running.exception(timeout=300)
    assert isinstance(error, AirflowException)
    (record,) = trainings.failures(made)
    assert record.ending is Ending.KILLED, record
    assert record.usage["seconds"] > 0
    assert "Running" not in _pods(trainings, made).values()

    found = trainings.run(made)
    assert found["resumed_from_step"] >= 5
    assert found["metrics"] == expected["metrics"]
    assert found["digest"] == expected["digest"]
    assert found["work_lost"]["steps"] == 0  # both had saved before they left


def test_the_familys_own_data_and_model_train_over_two_pods(trainings: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(step_module.PACKAGES, "fit", "include.training")
    spec = load_family("compliance_qa")
    published = Pipeline(Settings.from_env(), "sample", spec).run()
    trainer = {"nodes": 2, "devices": 1, "max_epochs": 1, "max_examples": 192, "accelerator": "cpu"}
    spec = spec.model_copy(update={"trainer": spec.trainer.model_copy(update=trainer)})
    found = trainings.run(_make(trainings, monkeypatch, spec, published["dataset_version"]))
    assert found["steps"] >= 192 / 16
    assert found["metrics"]["map_at_10"] > 0.3
    assert len(found["digest"]) == 64


def test_a_gang_that_finds_no_place_for_all_holds_none_and_uses_no_retry(steps: Steps) -> None:
    spec = {"cpu": "1200m", "pending_minutes": 1}  # of two cores: one pod finds a place, the other does not
    made = steps.make("works", resources=spec, nodes=2, seconds=600)
    running = steps.begin(made)
    wait_for(lambda: sorted(_pods(steps, made).values()) == ["Pending", "Running"])
    assert isinstance(running.exception(timeout=180), AirflowRescheduleException)
    (record,) = steps.failures(made)
    assert (record.ending, record.action) == (Ending.INCOMPLETE, Action.AGAIN)
    assert "Insufficient cpu" in record.line
    wait_for(lambda: not _pods(steps, made), 90)
