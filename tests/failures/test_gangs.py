"""Pods that trained together all end badly when one does: which of them tells why."""

from __future__ import annotations

from typing import Any

import pytest

from include.failures.adjust import Adjustment
from include.failures.classify import Evidence, classify, most_telling
from include.failures.endings import Ending
from include.failures.policy import Action, decide
from include.spec import load_family
from tests.failures.pods import LOW_MEMORY, NO_NODE, pod, terminated, waiting

_STOPPED = {"error": "Stopped", "kind": "system", "message": "training was asked to stop"}
_UNSCHEDULED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_NODE}]


def _ended(code: int, at: str = "2026-11-02T09:00:00Z", **more: Any) -> Evidence:
    state = terminated(code, **more)
    state["terminated"]["finishedAt"] = at
    return Evidence(exit_code=code, pod=pod(state=state), error=_STOPPED)


def test_who_lost_its_place_explains_who_stopped_because_of_it() -> None:
    evicted = Evidence(exit_code=1, pod=pod(reason="Evicted", message=LOW_MEMORY), error=_STOPPED)
    gang = [_ended(1, "2026-11-02T08:00:00Z"), evicted, _ended(1)]
    assert most_telling(gang) is evicted
    assert classify(most_telling(gang)).ending is Ending.EVICTED


def test_who_ran_out_of_memory_explains_who_lost_the_connection() -> None:
    killed = _ended(137, reason="OOMKilled")
    assert most_telling([_ended(1, "2026-11-02T08:00:00Z"), killed]) is killed


def test_who_was_deleted_explains_who_stopped_because_of_it() -> None:
    deleted = Evidence(deleted=True, pod=pod(phase="Running", deleted=True), error=_STOPPED)
    assert most_telling([_ended(1), deleted]) is deleted
    assert classify(deleted).ending is Ending.KILLED


def test_who_ended_first_explains_who_ended_after_it() -> None:
    first = _ended(1, "2026-11-02T08:59:58Z")
    assert most_telling([_ended(1), first, _ended(1)]) is first
    final = _ended(2, "2026-11-02T09:00:01Z")  # what a person must mend is that, whoever told it first
    assert most_telling([first, final]) is final
    assert most_telling([Evidence(pod=pod(phase="Succeeded", state=terminated(0))), first]) is first


def test_a_gang_without_places_starts_again_for_nothing() -> None:
    incomplete = Evidence(pod=pod(phase="Pending", conditions=_UNSCHEDULED), incomplete=True)
    diagnosis = classify(incomplete)
    assert (diagnosis.ending, diagnosis.line) == (Ending.INCOMPLETE, NO_NODE)
    spec = load_family("compliance_qa")
    none = decide(diagnosis.ending, step="fit", spec=spec, now=Adjustment(), earlier=[], has_rate=True)
    assert none.action is Action.AGAIN
    often = [Ending.INCOMPLETE] * spec.retry.lost_places
    limit = decide(diagnosis.ending, step="fit", spec=spec, now=Adjustment(), earlier=often, has_rate=True)
    assert limit.action is Action.RETRY

    nothing_said = Evidence(pod=pod(phase="Pending"), log_tail=["the quota leaves no room"], incomplete=True)
    assert classify(nothing_said).ending is Ending.INCOMPLETE
    assert classify(nothing_said).line == "the quota leaves no room"


def test_an_image_that_cannot_be_pulled_is_no_want_of_places() -> None:
    pulls = pod(phase="Pending", state=waiting("ImagePullBackOff", "no such image"))
    assert classify(Evidence(pod=pulls, incomplete=True)).ending is Ending.IMAGE


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:7",
        "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:429] writev [10.0.0.7]:40312: Broken pipe",
        "RendezvousError: node 2 of 3 did not come within 900 s",
        "GangError: lost connection: node 1 of 2 went away",
    ],
)
def test_lost_peers_are_a_matter_of_communication(line: str) -> None:
    assert classify(Evidence(exit_code=1, log_tail=[line])).ending is Ending.COMMUNICATION
