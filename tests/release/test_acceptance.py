"""INCONCLUSIVE from the gate to the person: it never ships by itself, and a person's word is on record first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.errors import UserError
from include.evaluation.documents import DocumentError
from include.release import candidate
from include.release.acceptance import accept, keep_material
from include.release.ledger import Event
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel

OPEN = {"hit_at_1": {"value": 0.52, "low": 0.45, "high": 0.6, "n": 100, "sd": 0.3}}


def archived(tunnel: Tunnel, run: str = "run", attempt: int = 9, **changes: Any) -> dict[str, Any]:
    """A candidate that was judged in its last round and archived, as the DAG does it; returns the decision."""
    given = tunnel.arguments(run=run, **{"summary": OPEN, **changes})
    decision = candidate.judge_candidate(
        tunnel.settings, tunnel.spec, **given, attempt=attempt, adjusted={}, backfill=False
    )
    parts = {name: given[name] for name in ("run", "fit", "evaluation")}
    more = {"dataset": given["dataset"], "sweep": {"study": "s"}, "backfill": False, "actor": "me"}
    material = keep_material(tunnel.store, tunnel.spec, **parts, **more, decision=decision)
    candidate.archive_candidate(
        tunnel.settings, tunnel.spec, **parts, decision=decision, actor="me", at=tunnel.now, material=material
    )
    return decision


def accepted(tunnel: Tunnel, decision: dict[str, Any], reason: str = "enough for us", actor: str = "Jo") -> Any:
    return accept(tunnel.settings, FAMILY, decision["decision_id"][:16], reason=reason, actor=actor, at=tunnel.now)


def test_the_whole_way_from_an_open_gate_to_traffic(tunnel: Tunnel) -> None:
    first = candidate.judge_candidate(
        tunnel.settings, tunnel.spec, **tunnel.arguments(summary=OPEN), attempt=1, adjusted={}, backfill=False
    )
    assert (first["verdict"], first["next"]) == ("INCONCLUSIVE", "retry")
    assert first["adjust"]["examples_scale"] == 2.0 and first["n_needed"] > 100, "it asks for more first"
    decision = archived(tunnel)
    assert (decision["verdict"], decision["next"]) == ("INCONCLUSIVE", "archive")
    assert "windtunnel accept" in decision["why"][-1]
    assert tunnel.versions() == [], "nothing shipped silently"

    done = accepted(tunnel, decision)
    (version,) = tunnel.versions()
    assert version.verdict == "ACCEPTED" and version.version == done["model_version"] and done["releasable"]
    assert version.record["accepted"] == {"actor": "Jo", "reason": "enough for us", "at": tunnel.now.isoformat()}
    assert "floor" in done["open"][0]
    events = [entry.event for entry in tunnel.ledger.entries(FAMILY)][::-1]
    assert events.index(Event.ACCEPTED) < events.index(Event.REGISTERED)
    begun = tunnel.begin(version.version)
    assert not begun.get("skip") and begun["rollout"]


def test_it_is_accepted_once_and_the_first_reason_holds(tunnel: Tunnel) -> None:
    decision = archived(tunnel)
    first, again = accepted(tunnel, decision), accepted(tunnel, decision, "another reason", "Ann")
    assert again["model_version"] == first["model_version"] and not again["new"]
    assert (again["actor"], again["reason"]) == ("Jo", "enough for us")
    assert len(tunnel.versions()) == 1


def test_a_death_between_word_and_registration_is_mended_by_doing_it_again(tunnel: Tunnel) -> None:
    decision = archived(tunnel)
    tunnel.mlflow.broken = True
    with pytest.raises(UserError, match="MLflow is away"):
        accepted(tunnel, decision)
    assert tunnel.versions() == []
    tunnel.mlflow.broken = False
    assert accepted(tunnel, decision, "later", "Ann")["reason"] == "enough for us"


def test_what_failed_or_passed_cannot_be_accepted(tunnel: Tunnel) -> None:
    low = {"hit_at_1": {**OPEN["hit_at_1"], "value": 0.2, "low": 0.1, "high": 0.3}}
    good = {"hit_at_1": {**OPEN["hit_at_1"], "value": 0.9, "low": 0.8, "high": 0.95}}
    for run, summary, verdict in (("a", low, "FAIL"), ("b", good, "PASS")):
        with pytest.raises(UserError, match=f"the verdict is {verdict}"):
            accepted(tunnel, archived(tunnel, run, summary=summary))
    assert tunnel.ledger.entries(FAMILY, frozenset({Event.ACCEPTED})) == []


def test_only_the_last_round_and_only_of_this_family(tunnel: Tunnel) -> None:
    decision = candidate.judge_candidate(
        tunnel.settings, tunnel.spec, **tunnel.arguments(summary=OPEN), attempt=1, adjusted={}, backfill=False
    )
    with pytest.raises(UserError, match="another round followed"):
        accepted(tunnel, decision)
    with pytest.raises(UserError, match="no verdict on a candidate of other"):
        accept(tunnel.settings, "other", decision["decision_id"], reason="x", actor="Jo", at=tunnel.now)


def test_what_was_kept_cannot_be_changed_meanwhile(tunnel: Tunnel) -> None:
    decision = archived(tunnel)
    (entry,) = tunnel.ledger.entries(FAMILY, frozenset({Event.ARCHIVED}))
    key = entry.record["material_key"]
    kept = json.loads(tunnel.store.get(key))
    tunnel.store.put(key, json.dumps({**kept, "fit": {"digest": "e" * 64}}).encode())
    with pytest.raises(DocumentError, match="was changed"):
        accepted(tunnel, decision)
    assert tunnel.ledger.entries(FAMILY, frozenset({Event.ACCEPTED})) == []


def test_who_serves_by_now_is_told(tunnel: Tunnel) -> None:
    decision = archived(tunnel)
    version = tunnel.fly("other")
    assert accepted(tunnel, decision)["note"] == f"{version} serves by now; it was compared with none"


@pytest.mark.parametrize("metric", ["personal_data", "vulnerabilities", "handled_under_empty"])
def test_what_no_training_mends_is_not_trained_again(tunnel: Tunnel, metric: str) -> None:
    gate = {"name": "g", "metric": metric, "operator": "lte", "threshold": 0.0}
    spec = tunnel.spec.model_copy(
        update={"evaluation": tunnel.spec.evaluation.model_validate({"gates": [gate], "robustness": {
            "changes": [{"name": "empty", "change": "empty"}]}})}
    )  # fmt: skip
    measured = {"summary": {metric: {"value": 3.0, "low": 3.0, "high": 3.0, "n": 1, "sd": 0.0}}}
    unknown = {"summary": {}, "unknown": {metric: "nobody looked"}}
    for changes, verdict in ((measured, "FAIL"), (unknown, "INCONCLUSIVE")):
        found = candidate.judge_candidate(
            tunnel.settings, spec, **tunnel.arguments(**changes), attempt=1, adjusted={}, backfill=False
        )
        assert (found["verdict"], found["next"]) == (verdict, "archive")
