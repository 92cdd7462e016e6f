"""What becomes of a trained candidate."""

from __future__ import annotations

from typing import Any

import pytest

from include.errors import UserError
from include.evaluation.documents import DocumentError, keep
from include.release import candidate
from include.release.decisions import replay
from include.release.ledger import Event
from include.store.database import open_database
from tests.release.conftest import Tunnel


def judged(tunnel: Tunnel, value: float = 0.9, half: float = 0.05, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    summary = {"hit_at_1": {"value": value, "low": value - half, "high": value + half, "n": 100, "sd": 0.3}}
    return candidate.judge_candidate(
        tunnel.settings,
        tunnel.spec,
        **tunnel.arguments(**{"summary": summary, **changes}),
        attempt=attempt,
        adjusted={},
        backfill=False,
    )


class TestJudge:
    def test_a_good_candidate_is_registered(self, tunnel: Tunnel) -> None:
        found = judged(tunnel)
        assert (found["verdict"], found["next"], found["adjust"]) == ("PASS", "register", {})
        assert len(found["why"]) == 3

    def test_a_bad_one_goes_back_to_the_sweep_and_then_to_the_archive(self, tunnel: Tunnel) -> None:
        first = judged(tunnel, 0.3)
        assert (first["verdict"], first["next"]) == ("FAIL", "retry")
        assert first["adjust"]
        last = judged(tunnel, 0.3, attempt=tunnel.spec.evaluation.max_attempts)
        assert (last["verdict"], last["next"], last["adjust"]) == ("FAIL", "archive", {})
        assert "no attempt is left" in last["why"][-1]

    def test_an_inconclusive_one_does_not_ship(self, tunnel: Tunnel) -> None:
        found = judged(tunnel, 0.52, half=0.1)
        assert (found["verdict"], found["next"]) == ("INCONCLUSIVE", "retry")
        assert found["n_needed"] > 100

    def test_without_a_champion_its_gate_is_no_obstacle(self, tunnel: Tunnel) -> None:
        assert any("no champion serves yet" in why for why in judged(tunnel)["why"])

    def test_the_decision_can_be_replayed(self, tunnel: Tunnel) -> None:
        found = judged(tunnel, 0.45, half=0.01)
        engine = open_database(tunnel.settings.database_url)
        again = replay(engine, found["decision_id"], {"gates.0.threshold": 0.4})
        assert (again["before"]["next"], again["after"]["next"]) == ("retry", "register")

    def test_the_same_outcome_is_the_same_decision(self, tunnel: Tunnel) -> None:
        arguments = tunnel.arguments("a" * 64)
        ids = {
            candidate.judge_candidate(
                tunnel.settings, tunnel.spec, **arguments, attempt=1, adjusted={}, backfill=False
            )["decision_id"]
            for _ in range(2)
        }
        assert len(ids) == 1

    def test_a_champion_that_changed_meanwhile_is_mentioned(self, tunnel: Tunnel) -> None:
        tunnel.fly()
        found = judged(tunnel, champion={"version": "0.1.0", "digest": "x"})
        assert any("1.0.0 serves by now" in why for why in found["why"])


class TestRegister:
    def test_versions_count_up(self, tunnel: Tunnel) -> None:
        assert tunnel.register()["model_version"] == "1.0.0"
        assert tunnel.register()["model_version"] == "1.1.0"  # surely better than the champion it was compared with
        same = {"hit_at_1": {"difference": 0.0, "low": -0.05, "high": 0.05, "n": 100, "sd": 0.1}}
        better = {"hit_at_1": {"difference": 0.2, "low": 0.1, "high": 0.3, "n": 100, "sd": 0.3}}
        refresh = tunnel.register(comparisons={"champion": same, "guess": better})
        assert (refresh["model_version"], refresh["change"]) == ("1.1.1", "patch")
        changed = {"inputs": {"question": "BYTES"}, "outputs": {"score": "FP64"}}
        assert tunnel.register(signature=changed)["model_version"] == "2.0.0"

    def test_the_record_is_complete(self, tunnel: Tunnel) -> None:
        tunnel.register()
        (row,) = tunnel.versions()
        wanted = {"hyperparameters", "metrics", "dataset", "code_version", "creator", "bytes", "decision", "signature"}
        assert wanted <= row.record.keys()
        assert row.record["change_why"] == "the first candidate"
        tags = tunnel.mlflow.versions["1"]
        assert (tags["semver"], tags["dataset_version"], tags["verdict"]) == ("1.0.0", "1.0.0", "PASS")
        assert tunnel.mlflow.aliases == {"candidate": "1"}

    def test_once_however_often(self, tunnel: Tunnel) -> None:
        digest = tunnel.package()
        first, again = tunnel.register(digest), tunnel.register(digest, run="another run")
        assert (first["new"], again["new"]) == (True, False)
        assert again["model_version"] == first["model_version"]
        assert again["releasable"]  # the run may have died before it announced the candidate
        assert len(tunnel.ledger.entries("tiny", frozenset({Event.REGISTERED}))) == 1

    def test_a_backfill_can_never_be_released_and_does_not_taint_its_twin(self, tunnel: Tunnel) -> None:
        digest = tunnel.package()
        assert not tunnel.register(digest, backfill=True)["releasable"]
        twin = tunnel.register(digest)
        assert (twin["releasable"], twin["new"]) == (True, True)
        assert tunnel.mlflow.aliases == {"candidate": "2"}

    def test_what_serves_already_is_not_announced_again(self, tunnel: Tunnel) -> None:
        digest = tunnel.package()
        version = tunnel.register(digest)["model_version"]
        rollout = tunnel.begin(version)["rollout"]
        for stage in ("shadow", "canary", "full"):
            tunnel.pass_stage(rollout, stage)
        tunnel.promote(rollout)
        assert not tunnel.register(digest)["releasable"]

    def test_what_live_traffic_refused_is_not_announced_again(self, tunnel: Tunnel) -> None:
        digest = tunnel.package()
        rollout = tunnel.begin(tunnel.register(digest)["model_version"])["rollout"]
        tunnel.enter(rollout, "shadow")
        bad = {"requests": 50, "errors": 50, "latency_p50_ms": 1.0, "latency_p95_ms": 1.0}
        tunnel.gateway.shown = {"variants": {"champion": {}, "challenger": {"shadow": bad}}}
        assert tunnel.judge(rollout, "shadow")["verdict"] == "FAIL"
        tunnel.roll_back(rollout)
        assert not tunnel.register(digest)["releasable"]

    @pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
    def test_only_what_passed(self, tunnel: Tunnel, verdict: str) -> None:
        decision = {"verdict": verdict, "decision_id": "d" * 64, "why": ["too bad"]}
        with pytest.raises(UserError, match="cannot be registered"):
            candidate.register_candidate(
                tunnel.settings,
                tunnel.spec,
                **tunnel.arguments(),
                actor="me",
                sweep={},
                decision=decision,
                backfill=False,
            )
        assert tunnel.versions() == []


class TestTheDecisionOnRecordCounts:
    def register(self, tunnel: Tunnel, decision: dict[str, Any], digest: str | None = None) -> Any:
        return candidate.register_candidate(
            tunnel.settings,
            tunnel.spec,
            **tunnel.arguments(digest),
            actor="me",
            sweep={},
            decision=decision,
            backfill=False,
        )

    @pytest.mark.parametrize("value", [0.3, 0.52])
    def test_whatever_is_said_of_it_on_the_way(self, tunnel: Tunnel, value: float) -> None:
        digest = tunnel.package(skill=0.5)
        found = judged(tunnel, value, digest=digest, half=0.1)
        assert found["verdict"] in ("FAIL", "INCONCLUSIVE")
        with pytest.raises(UserError, match=f"on record says {found['verdict']}"):
            self.register(tunnel, {**found, "verdict": "PASS"}, digest)
        assert tunnel.versions() == []

    def test_and_only_for_the_package_that_it_is_about(self, tunnel: Tunnel) -> None:
        found = judged(tunnel)
        with pytest.raises(UserError, match="of package"):
            self.register(tunnel, found, tunnel.package(skill=0.2))


def test_an_archived_candidate_leaves_its_reasons(tunnel: Tunnel) -> None:
    arguments = tunnel.arguments()
    del arguments["dataset"]
    decision = {"verdict": "FAIL", "decision_id": "d" * 64, "why": ["too bad"]}
    for _ in range(2):
        found = candidate.archive_candidate(tunnel.settings, tunnel.spec, **arguments, actor="me", decision=decision)
    assert found["archived"]
    (entry,) = tunnel.ledger.entries("tiny")
    assert (entry.event, entry.record["why"]) == (Event.ARCHIVED, ["too bad"])


def test_nothing_serves_before_the_first_release(tunnel: Tunnel) -> None:
    assert candidate.champion(tunnel.settings, "tiny") is None


class TestReportAndCard:
    def documents(self, tunnel: Tunnel) -> dict[str, Any]:
        kept = {name: keep(tunnel.store, "tiny", name, name.encode()) for name in ("report", "card")}
        return {
            **{f"{name}_key": document.key for name, document in kept.items()},
            **{f"{name}_digest": document.digest for name, document in kept.items()},
        }

    def test_a_version_and_the_ledger_name_them_by_digest(self, tunnel: Tunnel) -> None:
        documents = self.documents(tunnel)
        tunnel.register(**documents)
        (version,) = tunnel.versions()
        assert {name: version.record[name] for name in documents} == documents
        (entry,) = tunnel.ledger.entries("tiny", frozenset({Event.REGISTERED}))
        assert entry.record["card_digest"] == documents["card_digest"]

    @pytest.mark.parametrize("name", ["report", "card"])
    def test_one_that_was_changed_since_it_was_judged_is_not_registered(self, tunnel: Tunnel, name: str) -> None:
        documents = self.documents(tunnel)
        tunnel.store.put(documents[f"{name}_key"], b"much better")
        with pytest.raises(DocumentError, match="was changed"):
            tunnel.register(**documents)
        assert tunnel.versions() == []
