"""What every framework's trainer keeps to (`include.training.trainer.Trainer`), with real processes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from include.errors import DataError, UserError
from include.serving.package import fetch, verify
from include.settings import Settings
from include.spec import FamilySpec
from include.training.trainer import Report, TrialWork, load_trainer
from include.training.weights import Origins
from tests.fakes.three_frameworks import ThreeFrameworks, ThreeRows, three_spec
from tests.training.conftest import SECONDS, Steps, alive, children, wait_for

_KERAS = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("keras", "tensorflow", "tf2onnx")),
    reason="Keras on TensorFlow is not installed: pip install windtunnel[keras]",
)
_FRAMEWORKS = ["lightning", pytest.param("keras", marks=_KERAS), "sklearn"]
frameworks = pytest.mark.parametrize("framework", _FRAMEWORKS)


class ThreeSteps(Steps):
    program = "tests.fakes.three_process"


@pytest.fixture
def three(settings: Settings) -> Iterator[ThreeSteps]:
    made = ThreeSteps(settings)
    yield made
    made.close()


def trial(spec: FamilySpec, folder: Path, report: Report, *, seed: int) -> float:
    """A trial in this process."""
    work = TrialWork(
        ThreeFrameworks(), spec, ThreeRows(), spec.hyperparameters, seed=seed, threads=1, folder=folder,
        report=report, origins=Origins(),
    )  # fmt: skip
    return load_trainer(spec).trial(work)


def fails(three: ThreeSteps, document: Any) -> tuple[int, dict[str, Any]]:
    """Exit status and error record of a step that must fail."""
    process = three.start(document)
    log = process.communicate(timeout=240)[0].decode()
    assert process.returncode, log
    return process.returncode, three.error(document)


@pytest.mark.slow
@frameworks
def test_killed_and_stopped_it_ends_as_an_undisturbed_training(
    three: ThreeSteps, tmp_path: Path, framework: str
) -> None:
    spec = three_spec(framework, model={"pause_ms": 400})
    document = three.document("fit", spec)
    log = three.start(document).communicate(timeout=SECONDS)[0].decode()
    undisturbed = three.outputs(document)
    assert undisturbed["resumed_from_step"] is None
    shown = [int(number) for number in re.findall(r"progress fit .* steps .*epoch=(\d+)", log)]
    assert (shown[0], shown[-1]) == (1, spec.trainer.max_epochs) and shown == sorted(shown)

    document = three.document("fit", spec, {"again": 1})
    process = three.start(document)
    wait_for(lambda: three.checkpoints(document))
    trained_in = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in trained_in))  # it notices in half a second, and may save until then
    first = three.checkpoints(document)
    process = three.start(document)
    wait_for(lambda: three.checkpoints(document) != first)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 1
    assert three.error(document)["error"] == "Stopped"
    resumed = three.run(document)

    assert resumed["resumed_from_step"] > 0
    assert 0 < resumed["work_lost"]["tries"] <= 2
    assert resumed["work_lost"]["steps"] <= spec.trainer.checkpoint_every_steps
    assert (resumed["steps"], resumed["metrics"]) == (undisturbed["steps"], undisturbed["metrics"])
    assert resumed["digest"] == undisturbed["digest"]  # to the last bit
    assert three.checkpoints(document) == []
    _it_tells_how_far_it_is_and_what_came_out(three, document, resumed, tmp_path)


def _it_tells_how_far_it_is_and_what_came_out(
    three: ThreeSteps, document: Any, outputs: dict[str, Any], folder: Path
) -> None:
    from mlflow.tracking import MlflowClient

    assert outputs["export"]["parity_n"] == 200
    assert outputs["export"]["parity_max_abs_difference"] < 1e-3
    assert outputs["samples_per_second"] > 0
    package = verify(fetch(three.store, "three", outputs["digest"], folder), outputs["digest"])
    assert set(package.files) == {"config.json", "model.onnx"}
    served = ThreeFrameworks().load(folder / "three" / outputs["digest"])
    arrays = ThreeFrameworks().arrays(document.spec, ThreeRows(), "validation")
    off = np.abs(served.predict(arrays.features) - arrays.targets).mean()
    assert off == pytest.approx(outputs["metrics"]["off"], abs=1e-4)  # the best weights, and no others
    progress = json.loads(three.store.get(document.progress_key))
    assert (progress["unit"], progress["done"]) == ("export", 1)
    run = MlflowClient(three.settings.mlflow_url).get_run(outputs["mlflow_run"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best_off"] == pytest.approx(outputs["metrics"]["off"])
    assert run.data.params["trainer.framework"] == document.spec.trainer.framework.value
    history = MlflowClient(three.settings.mlflow_url).get_metric_history(run.info.run_id, "validation_off")
    assert history[-1].step == outputs["steps"]


@pytest.mark.slow
@frameworks
def test_the_seed_decides(tmp_path: Path, framework: str) -> None:
    def value(seed: int) -> float:
        spec, seen = three_spec(framework, max_epochs=2), []
        best = trial(spec, tmp_path, lambda epoch, value: seen.append((epoch, value)), seed=seed)
        assert [epoch for epoch, _ in seen] == [0, 1]
        assert best == min(value for _, value in seen)
        return best

    assert value(1) == value(1) != value(2)


@frameworks
def test_a_trial_ends_when_its_report_raises(tmp_path: Path, framework: str) -> None:
    class Pruned(Exception):
        pass

    spec, seen = three_spec(framework), []

    def report(epoch: int, value: float) -> None:
        seen.append(epoch)
        if epoch == 1:
            raise Pruned

    with pytest.raises(Pruned):
        trial(spec, tmp_path, report, seed=1)
    assert seen == [0, 1]


@pytest.mark.slow
@frameworks
def test_a_training_that_diverges_says_so(three: ThreeSteps, framework: str) -> None:
    spec = three_spec(framework)
    status, error = fails(three, three.document("fit", spec, {"hyperparameters": {"learning_rate": 1e30}}))
    assert (status, error["kind"]) == (1, "training"), error
    assert "learning rate" in error["hint"]


@pytest.mark.slow
@frameworks
def test_what_a_person_must_mend_is_final(three: ThreeSteps, framework: str) -> None:
    spec = three_spec(framework)
    other = spec.model_copy(update={"sweep": spec.sweep.model_copy(update={"metric": "glory"})})
    status, error = fails(three, three.document("fit", other))
    assert (status, error["kind"] in ("user", "data")) == (2, True), error
    assert "'glory'; it gives off" in error["message"]
    status, error = fails(three, three.document("fit", three_spec(framework, model={"bad_row": 7})))
    assert (status, error["kind"]) == (2, "data"), error


@pytest.mark.slow
@frameworks
def test_a_sweep_finds_and_prunes(three: ThreeSteps, framework: str) -> None:
    from optuna.trial import TrialState

    from include.training.study import load_study

    spec = three_spec(framework, model={"estimator": "steps"})
    space = {"learning_rate": {"kind": "choice", "values": [0.01, 1e30]}}
    sweep = {**spec.sweep.model_dump(mode="json"), "space": space, "sampler": "grid", "trials": 2}
    spec = spec.model_validate({**spec.model_dump(mode="json"), "sweep": sweep})
    outputs = three.run(three.document("sweep", spec, {"study": "s", "trials": 2, "adjust": {}}))
    assert outputs["best"]["params"] == {"learning_rate": 0.01}
    states = {
        trial.params["learning_rate"]: trial.state for trial in load_study(three.settings.optuna_url, "s").get_trials()
    }
    assert states == {0.01: TrialState.COMPLETE, 1e30: TrialState.PRUNED}


@pytest.mark.parametrize("framework", ["sklearn", pytest.param("keras", marks=_KERAS)])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, framework: str) -> None:
    spec = three_spec(framework, model={"bad_row": 7})
    with pytest.raises(DataError, match="features of example 7"):
        trial(spec, tmp_path, lambda epoch, value: None, seed=1)


@frameworks
def test_a_family_without_the_parts_is_told_which(tmp_path: Path, framework: str) -> None:
    spec = three_spec(framework)
    work = TrialWork(
        object(),  # type: ignore[arg-type]
        spec, ThreeRows(), {}, seed=1, threads=1, folder=tmp_path, report=lambda epoch, value: None, origins=Origins(),
    )  # fmt: skip
    with pytest.raises(UserError, match=f"cannot be trained with {framework}: it has no"):
        load_trainer(spec).trial(work)


def test_a_framework_that_is_not_installed_is_an_error_of_the_user(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("it is installed here")
    spec = three_spec("keras")
    with pytest.raises(UserError, match="Keras on TensorFlow is not installed"):
        trial(spec, tmp_path, lambda epoch, value: None, seed=1)
