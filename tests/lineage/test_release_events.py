"""What the ledger learns, a lineage catalogue learns as well, once."""

from __future__ import annotations

import json
from typing import Any

from tests.release.conftest import Tunnel, variant


def events(tunnel: Tunnel) -> list[dict[str, Any]]:
    """Oldest first; entries of one moment in the order in which they were told."""
    return [json.loads(tunnel.store.get(key)) for key in tunnel.store.keys("lineage/tiny/")]


def by_job(tunnel: Tunnel) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events(tunnel):
        found.setdefault(event["job"]["name"], []).append(event["eventType"])
    return {name: sorted(states, reverse=True) for name, states in found.items()}


def test_from_registration_to_champion(tunnel: Tunnel) -> None:
    tunnel.fly()
    assert by_job(tunnel) == {
        "tiny.register": ["START", "START", "COMPLETE", "COMPLETE"],  # the bootstrap baseline, and the candidate
        "tiny.release": ["START", "COMPLETE"],
        "tiny.release.canary": ["START", "COMPLETE"],
        "tiny.release.full": ["START", "COMPLETE"],
        "tiny.release.shadow": ["START", "COMPLETE"],
    }
    told = events(tunnel)
    stage = [event for event in told if event["job"]["name"] == "tiny.release.canary"]
    assert stage[0]["run"]["runId"] == stage[1]["run"]["runId"]
    whole = next(event for event in told if event["job"]["name"] == "tiny.release")
    assert stage[0]["run"]["facets"]["parent"]["run"]["runId"] == whole["run"]["runId"]
    assert [dataset["facets"]["version"]["datasetVersion"] for dataset in stage[0]["inputs"]] == ["1.0.0"]
    assert stage[0]["outputs"][0]["name"] == "tiny/traffic"


def test_a_registration_leads_from_dataset_and_package_to_the_version(tunnel: Tunnel) -> None:
    made = tunnel.register()
    done = next(event for event in events(tunnel) if event["eventType"] == "COMPLETE")
    read = {dataset["name"]: dataset["facets"]["version"]["datasetVersion"] for dataset in done["inputs"]}
    assert read == {"tiny/data": "1.0.0", "tiny/model": made["digest"]}
    assert done["outputs"][0]["facets"]["version"]["datasetVersion"] == made["model_version"]


def test_a_stage_that_is_not_passed_fails_and_so_does_its_rollout(tunnel: Tunnel) -> None:
    rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    tunnel.enter(rollout, "shadow")
    tunnel.later(5)
    worse = variant(quality={"hit_at_10": {"mean": 0.3, "n": 200, "sd": 0.4}})
    tunnel.gateway.shown = {"variants": {"champion": variant(), "challenger": worse}}
    assert tunnel.judge(rollout, "shadow")["verdict"] == "FAIL"
    tunnel.roll_back(rollout, "the shadow was bad")
    assert by_job(tunnel)["tiny.release.shadow"] == ["START", "FAIL"]
    assert by_job(tunnel)["tiny.release"] == ["START", "FAIL"]
    said = [
        event["run"]["facets"]["errorMessage"]["message"] for event in events(tunnel) if event["eventType"] == "FAIL"
    ]
    assert "the shadow was bad" in said


def test_what_is_tried_again_is_told_once(tunnel: Tunnel) -> None:
    made = tunnel.register()
    rollout = tunnel.begin(made["model_version"])["rollout"]
    for _ in range(3):
        tunnel.begin(made["model_version"])
        tunnel.enter(rollout, "shadow")
    assert by_job(tunnel)["tiny.release.shadow"] == ["START"]
    assert by_job(tunnel)["tiny.release"] == ["START"]
