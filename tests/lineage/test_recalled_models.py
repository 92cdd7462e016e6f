"""A model that was trained on recalled data goes no further, wherever it stands when the recall comes."""

from __future__ import annotations

import pytest

from include.data.recalls import Recall, lift_recalls, record_recall
from include.errors import DataError
from include.steps.document import make_document
from include.steps.entry import StepContext
from include.training.fit import fit
from include.training.sweep import sweep
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel
from tests.release.experiments.test_trial import Lab

REFUSED = "dataset 1.0.0 of tiny holds recalled data"


def recall(tunnel: Tunnel) -> None:
    """Version 1.0.0, which every model of the tunnel was trained on."""
    made = Recall(version="1.0.0", whole=True, deliveries=[], rows=[], reason="mixed up")
    assert record_recall(tunnel.ledger, FAMILY, made, actor="me", at=tunnel.now)


def test_it_is_not_registered(tunnel: Tunnel) -> None:
    recall(tunnel)
    with pytest.raises(DataError, match=REFUSED):
        tunnel.register()
    assert tunnel.versions() == []


def test_no_release_of_it_begins(tunnel: Tunnel) -> None:
    version = tunnel.register()["model_version"]
    recall(tunnel)
    with pytest.raises(DataError, match=REFUSED):
        tunnel.begin(version)


def test_a_rollout_stops_before_the_next_stage_and_can_be_taken_back(tunnel: Tunnel) -> None:
    rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    tunnel.pass_stage(rollout, "shadow")
    recall(tunnel)
    with pytest.raises(DataError, match=REFUSED):
        tunnel.enter(rollout, "canary")
    assert tunnel.roll_back(rollout)["to"] == tunnel.champion()


def test_it_does_not_become_the_champion(tunnel: Tunnel) -> None:
    rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    for stage in ("shadow", "canary", "full"):
        tunnel.pass_stage(rollout, stage)
    recall(tunnel)
    with pytest.raises(DataError, match=REFUSED):
        tunnel.promote(rollout)


def test_a_lifted_recall_lets_the_rollout_go_on(tunnel: Tunnel) -> None:
    rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    recall(tunnel)
    given = {"delivery": None, "row": None, "reason": "a false alarm", "actor": "me", "at": tunnel.now}
    lift_recalls(tunnel.ledger, FAMILY, "1.0.0", **given)  # type: ignore[arg-type]
    tunnel.pass_stage(rollout, "shadow")


@pytest.mark.parametrize("step", [fit, sweep])
def test_nothing_is_trained_on_it(tunnel: Tunnel, step: object) -> None:
    recall(tunnel)
    inputs = {"dataset_version": "1.0.0", "dataset_digest": "d", "seed": 1, "hyperparameters": {}, "study": "s"}
    document = make_document(
        "fit", "train/1", tunnel.spec, inputs, spec_parts=("model",), code_version="c", created_at=tunnel.now
    )
    with pytest.raises(DataError, match=REFUSED):
        step(StepContext(document, tunnel.store, tunnel.settings))  # type: ignore[operator]


def test_no_experiment_begins_with_it(tunnel: Tunnel) -> None:
    lab = Lab(tunnel)
    recall(tunnel)
    with pytest.raises(DataError, match=REFUSED):
        lab.begin()
    route = tunnel.ledger.route(FAMILY)
    assert route is not None and not route.table.arms
