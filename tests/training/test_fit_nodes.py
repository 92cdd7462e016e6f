"""The `fit` step over two nodes, each a process of its own as in two pods: the same model as on one, whoever dies."""

from __future__ import annotations

import os
import signal
import uuid

import pytest

from include.steps.document import RunDocument
from include.training.node import Node
from tests.fakes.fork_server import ForkedProgram
from tests.training.conftest import SECONDS, Steps, alive, children, small_spec, wait_for

pytestmark = pytest.mark.slow

_LONG = {"max_epochs": 4, "checkpoint_every_steps": 7}  # 12 batches an epoch: checkpoints fall inside of epochs
_RATE = {"learning_rate": 0.001}


def _start_nodes(steps: Steps, document: RunDocument) -> list[ForkedProgram]:
    name = uuid.uuid4().hex
    return [
        steps.start(document, {**Node(rank, 2, name).to_env(), "OMP_NUM_THREADS": "1"})
        for rank in (1, 0)  # the order of their starts does not matter
    ][::-1]


def _wait_until_trained(
    steps: Steps, document: RunDocument, nodes: list[ForkedProgram], before: list[str]
) -> list[int]:
    """The training processes of both nodes, once they have left another checkpoint."""
    wait_for(lambda: steps.checkpoints(document) not in ([], before) or any(node.poll() is not None for node in nodes))
    assert all(node.poll() is None for node in nodes), [node.communicate()[0].decode() for node in nodes]
    return [rank for node in nodes for rank in children(node.pid)]


def test_two_nodes_train_what_one_does_and_resume_after_the_loss_of_either(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    on_one_node = steps.document("fit", small_spec(trainer={**_LONG, "devices": 2}), {"hyperparameters": _RATE})
    expected = steps.run(on_one_node)

    spec = small_spec(trainer={**_LONG, "devices": 1, "nodes": 2})
    document = steps.document("fit", spec, {"hyperparameters": _RATE})

    for killed in (1, 0):  # kill -9 of a node: the other one ends with it, and no process is left
        before = steps.checkpoints(document)
        nodes = _start_nodes(steps, document)
        ranks = _wait_until_trained(steps, document, nodes, before)
        os.kill(nodes[killed].pid, signal.SIGKILL)
        assert nodes[1 - killed].wait(30) == 1
        wait_for(lambda gone=ranks: not any(alive(pid) for pid in gone), 10)
        log = nodes[1 - killed].communicate()[0].decode()
        assert f"node {killed} of 2 went away" in log
        if killed == 1:
            assert "node 1 of 2 went away" in steps.error(document)["message"]

    before = steps.checkpoints(document)
    nodes = _start_nodes(steps, document)
    _wait_until_trained(steps, document, nodes, before)
    os.killpg(nodes[1].pid, signal.SIGTERM)  # as when one of the pods is evicted: both save and leave
    assert [node.wait(60) for node in nodes] == [1, 1]
    assert steps.error(document)["error"] == "Stopped"

    nodes = _start_nodes(steps, document)
    logs = [node.communicate(timeout=SECONDS)[0].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], logs
    outputs = steps.outputs(document)
    assert outputs["steps"] == expected["steps"] == 48
    assert outputs["metrics"] == expected["metrics"]
    assert outputs["digest"] == expected["digest"]  # to the last bit
    assert outputs["work_lost"]["tries"] == 3
    assert outputs["work_lost"]["steps"] <= 2 * 7  # two kills, of an interval each at most; SIGTERM loses nothing
    assert steps.checkpoints(document) == []

    assert [node.wait(60) for node in _start_nodes(steps, document)] == [0, 0]  # all was done: nobody waits for anybody


def test_as_many_nodes_as_the_spec_asks_for_must_be_started(steps: Steps) -> None:
    document = steps.document("fit", small_spec(trainer={"nodes": 2}))
    process = steps.start(document)
    log = process.communicate(timeout=SECONDS)[0].decode()
    assert process.returncode == 2, log
    assert "asks for 2 node(s) and 1 were started" in steps.error(document)["message"]
