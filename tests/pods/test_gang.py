"""Pods that train together: where each belongs, and what is done with the others when one ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from include.pods.contract import PodError
from include.pods.gang import GangWatch, as_node, node_name
from include.pods.manifest import PodRequest, pod_manifest
from include.pods.watch import PodEnd, PodWatch, Watched
from include.spec.resources import ResourcesSpec
from include.training.node import Node

_MANIFEST = pod_manifest(ResourcesSpec(), PodRequest("work-0", ["-m", "x"], {"windtunnel/step": "fit"}, {"A": "b"}))


class Pod:
    """Stands for the watch over a pod: it ends when and how it is told to."""

    def __init__(self, end: PodEnd | Exception | None = None, after: float = 0.0) -> None:
        self.end, self.after = end, after

    async def run(self) -> Watched:
        await asyncio.sleep(self.after)
        if self.end is None:
            await asyncio.sleep(600)
        if isinstance(self.end, Exception):
            raise self.end
        return Watched(cast(PodEnd, self.end), {"metadata": {}})


def _watch(*pods: Pod, echo_seconds: float = 0.2) -> tuple[dict[str, str], list[str]]:
    """How the pods ended of which that is known, and which were told to end."""
    deleted: list[str] = []

    async def delete(name: str) -> None:
        deleted.append(name)

    async def run() -> dict[str, Watched]:
        watches = {f"pod-{number}": cast(PodWatch, pod) for number, pod in enumerate(pods)}
        return await GangWatch(watches, delete, echo_seconds).run()

    ends = asyncio.run(run())
    return {name: watched.end.value for name, watched in ends.items()}, deleted


def test_a_gang_is_done_when_node_0_is() -> None:
    ends, deleted = _watch(Pod(PodEnd.SUCCEEDED, 0.1), Pod(PodEnd.SUCCEEDED))
    assert ends == {"pod-0": "success", "pod-1": "success"}
    assert deleted == []


def test_a_node_that_is_done_early_ends_nobody() -> None:
    ends, _ = _watch(Pod(PodEnd.SUCCEEDED, 0.5), Pod(PodEnd.SUCCEEDED), echo_seconds=0.1)
    assert ends["pod-0"] == "success"


def test_where_one_has_no_place_in_time_none_keeps_its_own() -> None:
    ends, deleted = _watch(Pod(), Pod(PodEnd.PENDING), Pod(), echo_seconds=600)
    assert ends == {"pod-1": "pending"}
    assert deleted == ["pod-0", "pod-1", "pod-2"]


def test_after_a_bad_end_the_others_may_tell_theirs_and_then_must_go() -> None:
    ends, deleted = _watch(Pod(PodEnd.FAILED, 0.1), Pod(PodEnd.GONE), Pod(), echo_seconds=0.5)
    assert ends == {"pod-0": "failed", "pod-1": "gone"}
    assert deleted == ["pod-2"]  # those that ended by themselves stay, to be looked at


def test_a_time_limit_ends_all_at_once() -> None:
    assert _watch(Pod(PodEnd.TIMEOUT), Pod(), echo_seconds=600)[1] == ["pod-0", "pod-1"]


def test_what_the_api_refuses_is_no_end_of_a_pod() -> None:
    with pytest.raises(PodError, match="403"):
        _watch(Pod(), Pod(PodError("403")))


def test_a_pod_knows_its_place_in_the_gang() -> None:
    made = as_node(_MANIFEST, "work-0", 2, 4)
    assert made["metadata"]["name"] == node_name("work-0", 2) == "work-0-node-2"
    assert made["metadata"]["labels"]["windtunnel/gang"] == "work-0"
    env = {each["name"]: each for each in made["spec"]["containers"][0]["env"]}
    told = {name: each["value"] for name, each in env.items() if "value" in each}
    assert told["A"] == "b"
    assert env["PET_LOCAL_ADDR"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert Node.from_env({**told, "PET_LOCAL_ADDR": "10.0.0.7"}) == Node(2, 4, "work-0", "", "10.0.0.7")
    assert as_node(_MANIFEST, "work-0", 0, 4)["metadata"]["name"] == "work-0"


def test_a_pod_that_trains_alone_is_as_it_was() -> None:
    assert as_node(_MANIFEST, "work-0", 0, 1)["spec"] == _MANIFEST["spec"]
    assert as_node(_MANIFEST, "work-0", 0, 1)["metadata"]["labels"] == _MANIFEST["metadata"]["labels"]


@pytest.mark.parametrize("nodes", [1, 4])
def test_a_scheduler_of_groups_is_told_the_group(nodes: int) -> None:
    template: dict[str, Any] = {
        "metadata": {
            "labels": {"kueue.x-k8s.io/queue-name": "training", "kueue.x-k8s.io/pod-group-name": "{gang}"},
            "annotations": {"kueue.x-k8s.io/pod-group-total-count": "{nodes}"},
        }
    }
    manifest = pod_manifest(ResourcesSpec(), PodRequest("work-0", []), template)
    metadata = as_node(manifest, "work-0", nodes - 1, nodes)["metadata"]
    assert metadata["labels"]["kueue.x-k8s.io/pod-group-name"] == "work-0"
    assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    assert metadata["annotations"] == {"kueue.x-k8s.io/pod-group-total-count": str(nodes)}
