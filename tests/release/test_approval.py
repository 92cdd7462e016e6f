"""A person's approval: nothing live without it, and a no that leaves what serves alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from include.release import approval
from include.release.gateway import GatewayError
from include.release.ledger import Event
from include.release.state import ReleaseError
from include.spec.rollout import ReleaseSpec
from tests.fakes.tiny_family import tiny_spec
from tests.release.conftest import Tunnel


@pytest.fixture
def rollout(tunnel: Tunnel) -> str:
    """Passed its shadow, in a family whose candidates a person approves."""
    tunnel.spec = tiny_spec(release={**tiny_spec().release.model_dump(), "approval": True})
    found: str = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    tunnel.pass_stage(found, "shadow")
    return found


def settle(tunnel: Tunnel, rollout: str, approved: bool, actor: str = "ada", reason: str = "looked") -> dict[str, Any]:
    return approval.settle(
        tunnel.settings, "tiny", rollout, approved=approved, reason=reason, actor=actor, at=tunnel.now
    )


def test_no_live_traffic_before_somebody_was_asked(tunnel: Tunnel, rollout: str) -> None:
    with pytest.raises(ReleaseError, match="nobody was asked"):
        tunnel.enter(rollout, "canary")
    assert tunnel.ledger.route("tiny").table.stage == "shadow"  # type: ignore[union-attr]


def test_an_approval_lets_it_fly(tunnel: Tunnel, rollout: str) -> None:
    assert settle(tunnel, rollout, True) == {"approved": True, "actor": "ada", "reason": "looked"}
    for stage in ("canary", "full"):
        tunnel.pass_stage(rollout, stage)
    assert tunnel.promote(rollout)["champion"] == "1.0.0"
    entry = tunnel.ledger.entries("tiny", frozenset({Event.APPROVED}))[0]
    assert (entry.actor, entry.model_version, entry.record["reason"]) == ("ada", "1.0.0", "looked")


def test_a_rejection_archives_it_and_leaves_what_serves(tunnel: Tunnel, rollout: str) -> None:
    settle(tunnel, rollout, False, reason="wrong law")
    route = tunnel.ledger.route("tiny")
    assert route is not None
    assert (route.table.champion.version, route.table.challenger) == ("0.1.0", None)
    archived = tunnel.ledger.entries("tiny", frozenset({Event.ARCHIVED}))[0]
    assert (archived.actor, archived.model_version) == ("ada", "1.0.0")
    assert archived.record["why"] == ["rejected by ada: wrong law"]
    with pytest.raises(ReleaseError, match="has ended"):
        tunnel.enter(rollout, "canary")
    shares = [found.table.challenger_share for found in tunnel.ledger.routes_before("tiny", route.generation)]
    assert set(shares) == {0.0}, "it never answered anybody"


def test_a_rejected_candidate_is_not_announced_again(tunnel: Tunnel, rollout: str) -> None:
    settle(tunnel, rollout, False)
    digest = next(row.digest for row in tunnel.versions() if row.version == "1.0.0")
    assert tunnel.register(digest, run="another")["releasable"] is False


def test_the_first_answer_holds(tunnel: Tunnel, rollout: str) -> None:
    settle(tunnel, rollout, False)
    assert settle(tunnel, rollout, True, actor="eve")["approved"] is False
    assert len(tunnel.ledger.entries("tiny", frozenset({Event.APPROVED, Event.REJECTED}))) == 1


@pytest.mark.every_database
def test_of_many_answers_at_once_all_see_the_same(tunnel: Tunnel, rollout: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        held = list(pool.map(lambda n: settle(tunnel, rollout, n % 2 == 0, actor=f"person {n}"), range(6)))
    assert len({tuple(answer.items()) for answer in held}) == 1
    assert len(tunnel.ledger.entries("tiny", frozenset({Event.APPROVED, Event.REJECTED}))) == 1


def test_a_task_that_dies_over_the_consequences_is_tried_again(tunnel: Tunnel, rollout: str) -> None:
    tunnel.gateway.stuck = True
    with pytest.raises(GatewayError):
        settle(tunnel, rollout, False)
    assert not tunnel.ledger.entries("tiny", frozenset({Event.ARCHIVED}))
    tunnel.gateway.stuck = False
    given = approval.answer(tunnel.settings, "tiny", rollout)
    assert given is not None
    settle(tunnel, rollout, **given)
    assert tunnel.ledger.entries("tiny", frozenset({Event.ARCHIVED}))


def test_a_rollout_that_ended_meanwhile_is_not_approved(tunnel: Tunnel, rollout: str) -> None:
    tunnel.roll_back(rollout, "aborted")
    with pytest.raises(ReleaseError, match="has ended"):
        settle(tunnel, rollout, True)


def test_the_sheet_holds_what_the_person_must_know(tunnel: Tunnel, rollout: str) -> None:
    found = approval.facts(tunnel.settings, "tiny", rollout)
    assert (found["version"], found["champion"], found["dataset_version"]) == ("1.0.0", "0.1.0", "1.0.0")
    gate = next(gate for gate in found["gates"] if gate["name"] == "floor")
    assert (gate["verdict"], gate["value"], gate["low"], gate["high"]) == ("PASS", 0.9, 0.85, 0.95)
    assert found["against_champion"]["hit_at_1"]["low"] == 0.1
    assert found["cost"]
    assert [stage["verdict"] for stage in found["stages"]] == ["PASS"]


def test_the_first_candidate_of_all_is_asked_about_before_anything_serves(tunnel: Tunnel) -> None:
    release = {**tiny_spec().release.model_dump(), "approval": True, "bootstrap": None}
    tunnel.spec = tiny_spec(release=release)
    assert tunnel.spec.release.first_live == 0
    rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    with pytest.raises(ReleaseError, match="approval"):
        tunnel.enter(rollout, "shadow")
    assert tunnel.champion() is None


def test_the_question_comes_before_the_first_live_stage() -> None:
    stages = [stage.model_dump() for stage in tiny_spec().release.stages]
    assert ReleaseSpec(bootstrap="guess", stages=stages).first_live == 1
    assert ReleaseSpec(bootstrap=None, stages=stages).first_live == 0
