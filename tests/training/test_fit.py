"""The `fit` step with real processes: what it makes, and that nothing is lost when some of them are killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from include.failures.adjust import Adjustment
from include.families.compliance_qa.runtime import RetrievalRuntime
from include.serving.package import fetch, verify
from tests.training.conftest import Steps, alive, children, small_spec, wait_for

pytestmark = pytest.mark.slow

_LONG = {"max_epochs": 6, "checkpoint_every_steps": 7}  # 12 batches an epoch: checkpoints fall inside of epochs


def _ranks(pid: int) -> list[int]:
    """The training processes of a `fit`, once both are there."""
    found = children(pid)
    return found if len(found) == 2 else []


def test_two_processes_train_resume_after_kills_and_agree_with_an_undisturbed_run(steps: Steps) -> None:
    spec = small_spec(trainer={**_LONG, "devices": 2})
    undisturbed = steps.run(steps.document("fit", spec, {"hyperparameters": {"learning_rate": 0.001}}))
    assert undisturbed["resumed_from_step"] is None
    assert undisturbed["steps"] == 72
    assert undisturbed["metrics"]["map_at_10"] > 0.5

    # The same work in another place: the batch of the document's run has another fingerprint.
    document = steps.document("fit", spec, {"hyperparameters": {"learning_rate": 0.001}, "again": 1})

    # kill -9 of the command itself: no rank survives it.
    process = steps.start(document)
    ranks = wait_for(lambda: _ranks(process.pid))
    wait_for(lambda: steps.checkpoints(document))
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in ranks), 10)

    # SIGTERM, as a pod gets it (the whole group): it saves where it is, whatever the interval, and leaves.
    process = steps.start(document)
    before = steps.checkpoints(document)
    wait_for(lambda: _ranks(process.pid))
    wait_for(lambda: steps.checkpoints(document) != before)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 1
    assert steps.error(document)["error"] == "Stopped"

    resumed = steps.run(document)
    assert resumed["resumed_from_step"] >= 14
    assert resumed["steps"] == 72
    assert resumed["metrics"] == undisturbed["metrics"]
    assert resumed["digest"] == undisturbed["digest"]  # to the last bit
    assert undisturbed["work_lost"] == {"tries": 0, "steps": 0, "seconds": 0.0}
    assert resumed["work_lost"]["tries"] == 2
    assert resumed["work_lost"]["steps"] <= 7  # an interval at most for the kill; SIGTERM loses nothing
    assert steps.checkpoints(document) == []


def test_the_package_is_published_and_answers(steps: Steps, tmp_path: Path) -> None:
    document = steps.document("fit", small_spec())
    outputs = steps.run(document)

    folder = fetch(steps.store, "compliance_qa", outputs["digest"], tmp_path)
    verify(folder, outputs["digest"])
    answers = RetrievalRuntime(folder).predict({"question": ["Who has to keep the blue slip, and for how long?"]})
    assert len(answers["passage_ids"][0]) == 10
    assert outputs["export"]["parity_max_abs_difference"] < 1e-4
    assert outputs["export"]["parity_same_top_1"] == 1.0
    assert outputs["samples_per_second"] > 0

    _mlflow_knows(steps, document.fingerprint, outputs)
    _a_lost_result_costs_no_second_training(steps, document, outputs["digest"])


def _mlflow_knows(steps: Steps, fingerprint: str, outputs: dict[str, object]) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(steps.settings.mlflow_url)
    run = client.get_run(str(outputs["mlflow_run"]))
    assert run.info.status == "FINISHED"
    assert run.data.tags["windtunnel.fingerprint"] == fingerprint
    assert run.data.tags["windtunnel.dataset_version"] == "1.0.0"
    assert run.data.params["learning_rate"] == "0.0003"
    assert run.data.metrics["best_map_at_10"] == pytest.approx(outputs["metrics"]["map_at_10"])  # type: ignore[index]
    assert len(client.get_metric_history(run.info.run_id, "validation_map_at_10")) == 2


def _a_lost_result_costs_no_second_training(steps: Steps, document: object, digest: str) -> None:
    steps.store.delete(document.result_key)  # type: ignore[attr-defined]
    process = steps.start(document)  # type: ignore[arg-type]
    log = process.communicate(timeout=240)[0].decode()
    assert process.returncode == 0, log
    assert "training was done by an earlier attempt" in log
    assert steps.outputs(document)["digest"] == digest  # type: ignore[arg-type]


def test_a_training_that_ran_out_of_memory_goes_on_in_smaller_batches(steps: Steps) -> None:
    spec = small_spec(trainer={"checkpoint_every_steps": 5})
    document = steps.document("fit", spec)
    process = steps.start(document)
    wait_for(lambda: steps.checkpoints(document))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    document = document.model_copy(update={"adjustment": Adjustment(batch_divisor=2)})
    steps.store.put(document.document_key, document.model_dump_json().encode())
    outputs = steps.run(document)
    assert outputs["resumed_from_step"] >= 5
    assert outputs["work_lost"]["tries"] == 1
    assert 0 <= outputs["work_lost"]["steps"] <= 5  # an interval at most: killed while it saved the next checkpoint
    assert outputs["steps"] == 24  # 12 an epoch, as with the batches that were asked for
    assert outputs["adjusted"] == {
        "batch_size": {"asked": 8, "used": 4},
        "accumulate_grad_batches": {"asked": 1, "used": 2},
    }


def test_training_outlives_a_broken_mlflow(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    outputs = steps.run(steps.document("fit", small_spec(trainer={"max_epochs": 1})))
    assert outputs["digest"]
    assert outputs["mlflow_run"] is None


@pytest.mark.parametrize(
    ("trainer", "hyperparameters", "message"),
    [
        ({"accelerator": "gpu"}, {}, "trainer cannot run here"),
        ({}, {"max_epochs": 0}, "max_epochs must be a whole number above 0"),
    ],
)
def test_what_a_person_must_mend_is_a_final_error(
    steps: Steps, trainer: dict[str, object], hyperparameters: dict[str, object], message: str
) -> None:
    document = steps.document("fit", small_spec(trainer=trainer), {"hyperparameters": hyperparameters})
    process = steps.start(document)
    log = process.communicate(timeout=240)[0].decode()
    assert process.returncode == 2, log
    assert message in steps.error(document)["message"]
    assert steps.error(document)["kind"] == "user"
