"""Nodes that train together: they meet or none starts, they hear of each other's end, and they stop together."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.errors import FailureKind, UserError, WindtunnelError
from include.failures.classify import Evidence, classify
from include.failures.endings import Ending
from include.store.objects import open_store
from include.training import gang as gang_module
from include.training.gang import Gang
from include.training.node import Node
from include.training.ranks import run_ranks
from include.training.stop import context
from tests.training.conftest import alive, wait_for
from tests.training.test_ranks import Work

_FACTS = {"work": "w", "step": 0}


def _live(node: Node, folder: Path, work: str, devices: int, seconds: float, facts: dict[str, Any]) -> None:
    """The life of one node; how it ended is left in a file."""
    scratch = folder / f"node-{node.rank}"
    scratch.mkdir()
    gang = Gang(node, open_store((folder / "store").as_uri()), "work", seconds, facts)
    told = {"error": "", "message": "", "kind": ""}
    try:
        run_ranks(Work(work, folder), devices, 1, scratch, gang=gang)
    except WindtunnelError as error:
        told = error.to_json()
    (folder / f"ended-{node.rank}.tmp").write_text(json.dumps(told))
    (folder / f"ended-{node.rank}.tmp").rename(folder / f"ended-{node.rank}")
    os._exit(0)


class Nodes:
    """Starts nodes as processes and tells how they ended."""

    def __init__(self, folder: Path) -> None:
        import torch.distributed  # noqa: F401 - once, and not in each process that is forked from this one

        self.folder = folder
        self.processes: dict[int, Any] = {}
        self._name = uuid.uuid4().hex

    def start(
        self,
        rank: int,
        work: str,
        *,
        nodes: int = 2,
        devices: int = 1,
        seconds: float = 60,
        facts: dict[str, Any] | None = None,
    ) -> None:
        node = Node(rank, nodes, self._name)
        arguments = (node, self.folder, work, devices, seconds, facts or _FACTS)
        self.processes[rank] = context().Process(target=_live, args=arguments)
        self.processes[rank].start()

    def start_all(self, work: str, **options: Any) -> None:
        for rank in range(2):
            self.start(rank, work, **options)

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        os.kill(self.processes[rank].pid, number)

    def ended(self, rank: int) -> dict[str, Any]:
        path = self.folder / f"ended-{rank}"
        wait_for(path.exists, 90)
        told: dict[str, Any] = json.loads(path.read_text())
        return told

    def ranks(self) -> list[int]:
        """Process ids of the training processes that began to work."""
        return [int(path.read_text()) for path in self.folder.glob("rank-*") if path.read_text()]

    def all_work(self) -> Callable[[], bool]:
        return lambda: len(self.ranks()) == len(self.processes)

    def close(self) -> None:
        for process in self.processes.values():
            if process.is_alive():
                process.kill()
            process.join()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


def test_processes_of_two_nodes_are_one_group(nodes: Nodes, tmp_path: Path) -> None:
    nodes.start_all("sum", devices=2)
    assert (nodes.ended(0)["error"], nodes.ended(1)["error"]) == ("", "")
    assert {(tmp_path / f"sum-{rank}").read_text() for rank in range(4)} == {"10.0"}
    assert list(open_store((tmp_path / "store").as_uri()).keys("work/")) == []  # node 0's address is told no longer


def test_a_node_that_does_not_come_is_named_and_nobody_stays(nodes: Nodes) -> None:
    nodes.start(0, "sum", nodes=3, seconds=4)
    nodes.start(1, "sum", nodes=3, seconds=4)
    for rank in (0, 1):
        told = nodes.ended(rank)
        assert told["error"] == "RendezvousError"
        assert classify(Evidence(exit_code=1, error=told)).ending is Ending.COMMUNICATION
    assert "node 2 of 3 did not come within 4 s" in nodes.ended(0)["message"]
    assert nodes.ranks() == []  # nothing began


def test_without_node_0_the_others_give_up(nodes: Nodes) -> None:
    nodes.start(1, "sum", seconds=1)
    assert "node 0 did not tell where it is within 1 s" in nodes.ended(1)["message"]


def test_nodes_that_would_go_on_from_different_checkpoints_do_not_start(nodes: Nodes) -> None:
    nodes.start(0, "sum")
    nodes.start(1, "sum", facts={**_FACTS, "step": 50})
    assert nodes.ended(0)["error"] == nodes.ended(1)["error"] == "RendezvousError"
    assert "other work" in nodes.ended(0)["message"]
    assert nodes.ranks() == []


def test_the_error_of_one_node_is_told_by_all_with_its_kind_and_place(nodes: Nodes) -> None:
    nodes.start_all("fail")  # rank 1, which is of node 1
    assert nodes.ended(1)["error"] == "RankError"
    told = nodes.ended(0)
    assert (told["error"], told["kind"], told["where"]) == ("GangError", "data", "row 7")
    assert "node 1 of 2 failed: RankError: the data is bad" in told["message"]
    assert classify(Evidence(exit_code=2, error=told)).ending is Ending.DATA
    assert not any(alive(pid) for pid in nodes.ranks())


@pytest.mark.parametrize("killed", [0, 1])
def test_no_node_outlives_one_that_is_killed(nodes: Nodes, killed: int) -> None:
    nodes.start_all("steps")
    wait_for(nodes.all_work())
    ranks = nodes.ranks()
    nodes.kill(killed)
    told = nodes.ended(1 - killed)
    assert f"node {killed} of 2 went away" in told["message"]
    assert classify(Evidence(exit_code=1, error=told)).ending is Ending.COMMUNICATION
    wait_for(lambda: not any(alive(pid) for pid in ranks), 30)


@pytest.mark.parametrize("silent", [0, 1])
def test_a_node_that_falls_silent_is_given_up(nodes: Nodes, silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gang_module, "_SILENCE_SECONDS", 3.0)
    nodes.start_all("sleep")
    wait_for(nodes.all_work())
    nodes.kill(silent, signal.SIGSTOP)
    assert f"node {silent} of 2 went away" in nodes.ended(1 - silent)["message"]


@pytest.mark.parametrize("told", [0, 1])
def test_sigterm_to_one_node_stops_all_after_the_same_step(nodes: Nodes, tmp_path: Path, told: int) -> None:
    nodes.start_all("steps", devices=2)
    wait_for(lambda: len(nodes.ranks()) == 4)
    time.sleep(0.2)  # some steps
    nodes.kill(told, signal.SIGTERM)
    assert nodes.ended(0)["error"] == nodes.ended(1)["error"] == "Stopped"
    assert len({(tmp_path / f"stopped-{rank}").read_text() for rank in range(4)}) == 1


def test_sigterm_while_waiting_for_others_is_heeded(nodes: Nodes, tmp_path: Path) -> None:
    nodes.start(0, "sum")
    wait_for(lambda: list(open_store((tmp_path / "store").as_uri()).keys("work/")))
    nodes.kill(0, signal.SIGTERM)
    assert nodes.ended(0)["error"] == "Stopped"


def test_a_node_is_told_by_the_variables_of_torchrun() -> None:
    node = Node(1, 4, "try-7", "10.0.0.9:29400", "10.0.0.7")
    assert Node.from_env(node.to_env()) == node
    assert Node.from_env({}) == Node()
    assert Node.from_env(replace(node, endpoint="").to_env()).endpoint == ""
    for wrong in ({"PET_NNODES": "2", "PET_NODE_RANK": "2"}, {"PET_NNODES": "two"}, {"PET_NNODES": "2"}):
        with pytest.raises(UserError) as caught:
            Node.from_env(wrong)
        assert caught.value.kind is FailureKind.USER
    with pytest.raises(UserError, match=r"asks for 3 node\(s\) and 1 were started"):
        Node().check(3)
