"""The dossier tells of every version how it stands, from its traffic back to its data, and fails over nothing."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from include.dossier.page import render
from include.dossier.subject import read_history
from include.errors import UserError
from include.release.decisions import replay
from include.release.ledger import Event
from include.release.rollback import revert
from include.serving.package import package_prefix
from include.store.database import open_database
from tests.dossier.conftest import NOW, leave_run, read, refused, say, stopped
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import START, Tunnel, interfere
from tests.release.test_acceptance import accepted, archived


class TestStanding:
    def test_what_serves_is_the_default_and_says_where_traffic_would_go_back_to(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        found = read(tunnel)
        assert found["subject"] == {**found["subject"], "version": version, "kind": "candidate"}
        standing = found["standing"]
        assert (standing["state"], standing["share"], standing["rollback_to"]) == ("serving", 1.0, "0.1.0")
        assert standing["do"] == ["windtunnel rollback tiny --reason ..."]

    def test_a_candidate_in_its_canary_can_be_aborted(self, tunnel: Tunnel) -> None:
        version = tunnel.register()["model_version"]
        rollout = tunnel.begin(version)["rollout"]
        tunnel.pass_stage(rollout, "shadow")
        assert read(tunnel, version)["standing"]["state"] == "shadow"
        tunnel.enter(rollout, "canary")
        standing = read(tunnel, version)["standing"]
        assert (standing["state"], standing["share"], standing["stage"]) == ("in rollout", 0.05, "canary")
        assert standing["do"][0] == "windtunnel rollout abort tiny --reason ..."
        champion = read(tunnel, "0.1.0")["standing"]
        assert champion["since"] == START.isoformat() and champion["why"].startswith("bootstrap")
        assert champion["share"] == 0.95 and f"while {version} is in stage canary" in champion["headline"]
        assert champion["do"] == ["windtunnel rollout abort tiny --reason ..."]

    def test_what_was_stopped_says_where_and_why(self, tunnel: Tunnel) -> None:
        standing = read(tunnel, stopped(tunnel))["standing"]
        assert (standing["state"], standing["share"], standing["do"]) == ("rolled back", 0.0, [])
        assert "in canary" in standing["headline"] and "hit_at_10" in standing["why"]

    def test_what_was_rolled_back_after_it_served_names_its_successor(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        revert(tunnel.settings, FAMILY, to=None, reason="odd answers", actor="eve", at=tunnel.later(60))
        found = read(tunnel, version)
        assert found["standing"]["headline"] == "rolled back to 0.1.0 after it had served"
        assert found["standing"]["why"] == "odd answers"
        assert [event["by"] for event in found["later"]] == ["eve"]
        (back,) = [event for event in read(tunnel, "0.1.0")["later"] if event["event"] == "rolled_back"]
        assert back["what"] == "took over again"

    def test_what_was_replaced_names_its_successor(self, tunnel: Tunnel) -> None:
        first = tunnel.fly()
        second = tunnel.fly(run="second")
        assert read(tunnel, first)["standing"]["headline"] == f"replaced by {second}"

    def test_a_backfill_and_a_fresh_candidate_wait(self, tunnel: Tunnel) -> None:
        assert read(tunnel, tunnel.register()["model_version"])["standing"]["state"] == "waiting"
        compared = tunnel.register(run="backfill", backfill=True)["model_version"]
        assert read(tunnel, compared)["standing"]["state"] == "for comparison"

    def test_a_rollout_that_somebody_else_ended_says_who(self, tunnel: Tunnel) -> None:
        version = tunnel.register()["model_version"]
        tunnel.pass_stage(tunnel.begin(version)["rollout"], "shadow")
        interfere(tunnel, "0.1.0")
        (rollout,) = read(tunnel, version)["rollouts"]
        assert (rollout["outcome"], rollout["by"]) == ("taken over", "you") and "by hand" in rollout["why"]


class TestRefused:
    @pytest.mark.parametrize("archived", [True, False])
    def test_a_candidate_without_a_number_is_found_by_its_digest(self, tunnel: Tunnel, archived: bool) -> None:
        digest = refused(tunnel, archived=archived)
        found = read(tunnel, digest[:8])
        assert found["subject"] == {"name": digest[:12], "kind": "refused", "version": None, "digest": digest}
        assert found["standing"]["headline"].startswith("refused by its gates: FAIL")
        assert "beats_guess" in found["standing"]["why"]
        assert found["version"]["verdict"] == found["gates"]["verdict"] == "FAIL"
        assert found["version"]["run"] == ("train__tiny/refused" if archived else None)
        assert found["traffic"] == found["rollouts"] == []

    def test_the_family_knows_each_of_them_once(self, tunnel: Tunnel) -> None:
        tunnel.fly()
        digest = refused(tunnel)
        history = read_history(tunnel.settings, FAMILY)
        assert [one.digest for one in history.refused] == [digest]


class TestRollouts:
    def test_stages_tell_what_was_planned_seen_and_judged(self, tunnel: Tunnel) -> None:
        (rollout,) = read(tunnel, tunnel.fly())["rollouts"]
        assert (rollout["outcome"], rollout["against"]) == ("promoted", "0.1.0")
        assert [stage["stage"] for stage in rollout["stages"]] == ["shadow", "canary", "full"]
        canary = rollout["stages"][1]
        assert (canary["traffic"], canary["verdict"], canary["seconds"]) == (0.05, "PASS", 5.0)
        assert (canary["candidate"]["requests"], canary["candidate"]["errors"]) == (400, 0)
        assert canary["champion"]["latency_p95_ms"] == 20.0
        assert canary["minimum"] == {"seconds": 1.0, "requests": 50, "labels": 20}
        assert replay(open_database(tunnel.settings.database_url), canary["decision"])["same"]
        assert rollout["budget"]["spent"] == 0 and rollout["budget"]["requests"] == 800  # the shadow answers nobody
        assert rollout["load_check"]["verdict"] == "PASS"

    def test_stages_that_were_never_reached_are_told_as_well(self, tunnel: Tunnel) -> None:
        (rollout,) = read(tunnel, stopped(tunnel))["rollouts"]
        assert [stage["verdict"] for stage in rollout["stages"]] == ["PASS", "FAIL", None]
        assert rollout["stages"][2]["entered_at"] is None and rollout["stages"][2]["candidate"] is None
        assert rollout["outcome"] == "rolled back" and rollout["to"] == "0.1.0"

    def test_people_are_quoted(self, tunnel: Tunnel) -> None:
        version = tunnel.register()["model_version"]
        tunnel.pass_stage(tunnel.begin(version)["rollout"], "shadow")
        say(tunnel, "pause", "odd answers")
        say(tunnel, "resume", "looked at them", "eve")
        say(tunnel, "abort", "wrong law", "bob")
        (rollout,) = read(tunnel, version)["rollouts"]
        words = [(word["said"], word["by"], word["why"]) for word in rollout["words"]]
        assert words == [
            ("paused", "ada", "odd answers"), ("resumed", "eve", "looked at them"), ("aborted", "bob", "wrong law"),
        ]  # fmt: skip

    def test_traffic_is_told_generation_by_generation(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        periods = read(tunnel, version)["traffic"]
        assert [(p["share"], p["shadow"]) for p in periods] == [(0.0, True), (0.05, False), (1.0, False), (1.0, False)]
        assert periods[-1]["until"] is None and periods[-1]["role"] == "champion"
        assert periods[1]["seconds"] == 5.0 and periods[1]["actor"] == "me"
        assert read(tunnel, "0.1.0")["traffic"][0]["reason"].startswith("bootstrap")


class TestMaking:
    def test_search_training_and_lost_work(self, tunnel: Tunnel) -> None:
        made = tunnel.register(run="train__tiny/r1")
        leave_run(tunnel, "train__tiny/r1", made["digest"])
        found = read(tunnel, made["model_version"])
        assert (found["search"]["trials"], found["search"]["repeats"], found["search"]["stopped"]) == (
            5,
            3,
            "converged",
        )
        training = found["training"]
        assert (training["steps"], training["resumed_from_step"], training["work_lost"]["steps"]) == (164, 40, 12)
        assert training["same_model"] is True
        assert not any("training" in problem or "search" in problem for problem in found["problems"])

    def test_a_result_of_another_model_is_told(self, tunnel: Tunnel) -> None:
        tunnel.register(run="train__tiny/r1")
        leave_run(tunnel, "train__tiny/r1", "f" * 64)
        assert "the stored result of its training run names another model" in read(tunnel)["problems"]

    def test_a_baseline_was_neither_searched_nor_trained(self, tunnel: Tunnel) -> None:
        tunnel.fly()
        found = read(tunnel, "0.1.0")
        assert found["subject"]["kind"] == "baseline"
        assert found["search"] is found["training"] is found["gates"] is None


class TestProof:
    def test_gates_show_what_was_asked_and_measured(self, tunnel: Tunnel) -> None:
        gates = read(tunnel, tunnel.register()["model_version"])["gates"]
        floor = gates["gates"][0]
        assert (floor["name"], floor["threshold"], floor["value"], floor["n"]) == ("floor", 0.5, 0.9, 100)
        assert gates["gates"][1]["reference"] == "guess"
        assert gates["decision"]["intact"] and not gates["decision"]["code_changed"]

    def test_what_a_person_accepted_names_the_person(self, tunnel: Tunnel) -> None:
        wide = {"hit_at_1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 20, "sd": 0.3}}
        decision = archived(tunnel, summary=wide)
        done = accepted(tunnel, decision)
        found = read(tunnel, done["model_version"])
        assert found["gates"]["verdict"] == "INCONCLUSIVE" and found["version"]["verdict"] == "ACCEPTED"
        assert (found["gates"]["accepted"]["actor"], found["gates"]["accepted"]["reason"]) == ("Jo", "enough for us")
        assert [event["event"] for event in found["later"]] == ["archived", "accepted"]
        assert "by Jo" in render(found) and "enough for us" in render(found)

    def test_a_decision_that_was_altered_is_told(self, tunnel: Tunnel) -> None:
        version = tunnel.register()["model_version"]
        with open_database(tunnel.settings.database_url).begin() as connection:
            connection.execute(text("DROP TRIGGER decisions_no_update"))
            connection.execute(text("UPDATE decisions SET input = replace(input, '0.85', '0.86')"))
        found = read(tunnel, version)
        assert found["gates"]["decision"]["intact"] is False
        assert any("decision" in problem and "altered" in problem for problem in found["problems"])

    def test_versions_say_what_made_their_number(self, tunnel: Tunnel) -> None:
        tunnel.register()
        version = read(tunnel, tunnel.register(run="second")["model_version"])["version"]
        assert version["change"] in {"minor", "patch"} and version["change_why"]
        assert version["signature"]["outputs"] == {"score": "FP32"}


class TestStored:
    def test_a_package_that_lost_a_file_is_told(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        digest = read(tunnel, version)["subject"]["digest"]
        tunnel.store.delete(f"{package_prefix(FAMILY, digest)}/model.json")
        assert "of the model package model.json is gone" in read(tunnel, version)["problems"]

    def test_a_package_that_is_gone_fails_nothing(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        for key in list(tunnel.store.keys("models/")):
            tunnel.store.delete(key)
        found = read(tunnel, version)
        assert found["package"]["stored"]["state"] == "missing" and found["standing"]["share"] == 1.0
        assert "the model package is gone from the object store" in found["problems"]

    def test_an_altered_list_of_files_is_told(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        key = f"{package_prefix(FAMILY, read(tunnel)['subject']['digest'])}/package.json"
        record = json.loads(tunnel.store.get(key))
        record["files"]["model.json"][0] = "0" * 64
        tunnel.store.put(key, json.dumps(record).encode())
        assert "altered" in read(tunnel, version)["problems"][0]

    def test_files_are_read_where_that_is_asked(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        key = f"{package_prefix(FAMILY, read(tunnel)['subject']['digest'])}/model.json"
        tunnel.store.put(key, tunnel.store.get(key) + b" ")
        assert read(tunnel, version)["package"]["stored"]["state"] == "whole"
        assert read(tunnel, version, verify=True)["package"]["stored"]["state"] == "altered"

    def test_nothing_at_all_in_the_store_is_a_dossier_too(self, tunnel: Tunnel) -> None:
        version = tunnel.register()["model_version"]
        for key in list(tunnel.store.keys("")):
            tunnel.store.delete(key)
        problems = read(tunnel, version)["problems"]
        for what in ("package", "report", "card", "training", "search", "catalogue"):
            assert any(what in problem for problem in problems), what


class TestDocument:
    def test_the_same_state_gives_the_same_document_at_any_time(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        first, later = read(tunnel, version), read(tunnel, version, at=NOW.replace(year=2027))
        assert first["digest"] == later["digest"] and first["as_of"] != later["as_of"]
        assert {**first, "as_of": ""} == {**later, "as_of": ""}
        tunnel.fly(run="second")
        assert read(tunnel, version)["digest"] != first["digest"]

    def test_it_is_plain_json(self, tunnel: Tunnel) -> None:
        found = read(tunnel, tunnel.fly())
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    def test_the_last_drill_is_in_every_dossier_of_the_family(self, tunnel: Tunnel) -> None:
        version = tunnel.fly()
        assert read(tunnel, version)["drill"] is None
        for day, fault in enumerate(("slow", "wrong")):
            record = {"drill": str(day), "fault": fault, "outcome": "stopped", "stopped_at": "canary"}
            tunnel.ledger.append(FAMILY, Event.DRILLED, key=f"d{day}", actor="cron", at=tunnel.later(9), record=record)
        assert read(tunnel, "0.1.0")["drill"]["fault"] == "wrong"

    def test_what_there_is_none_of_is_told(self, tunnel: Tunnel) -> None:
        with pytest.raises(UserError, match="no model version yet"):
            read(tunnel)
        version = tunnel.register()["model_version"]
        with pytest.raises(UserError, match=r"no version '9\.9\.9'") as told:
            read(tunnel, "9.9.9")
        assert version in told.value.hint
        with pytest.raises(UserError, match="no version"):
            read(tunnel, "abcdef012345")
