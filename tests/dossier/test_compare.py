"""Two versions side by side: the paired difference keeps its sign whichever is named first."""

from __future__ import annotations

import pytest

from include.dossier.compare import compare
from include.dossier.subject import read_history
from tests.dossier.conftest import refused
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel


def test_a_candidate_and_the_champion_that_it_met(tunnel: Tunnel) -> None:
    first = tunnel.fly()
    second = tunnel.register(run="second", signature={"inputs": {}, "outputs": {"score": "FP64"}})["model_version"]
    history = read_history(tunnel.settings, FAMILY)
    forth, back = compare(history, first, second), compare(history, second, first)
    assert forth["paired"]["hit_at_1"] == {"difference": 0.2, "low": 0.1, "high": 0.3, "n": 100, "sd": 0.3}
    turned = back["paired"]["hit_at_1"]
    assert (turned["difference"], turned["low"], turned["high"]) == (-0.2, -0.3, -0.1)
    assert forth["met"] == back["met"] == f"{second} was evaluated against {first}"
    rows = {row["what"]: row for row in forth["rows"]}
    assert (rows["outputs"]["first"], rows["outputs"]["second"]) == ("score FP32", "score FP64")
    assert rows["number"]["second"].startswith("major: clients must change")
    assert rows["verdict"]["same"]


def test_a_refused_candidate_can_be_held_beside_a_version(tunnel: Tunnel) -> None:
    version, digest = tunnel.fly(), refused(tunnel)
    found = compare(read_history(tunnel.settings, FAMILY), version, digest[:10])
    assert {row["what"]: row["second"] for row in found["rows"]}["verdict"] == "refused"


@pytest.mark.parametrize("first", [True, False])
def test_the_baseline_that_a_candidate_was_measured_against(tunnel: Tunnel, first: bool) -> None:
    version = tunnel.fly()
    names = ("0.1.0", version) if first else (version, "0.1.0")
    found = compare(read_history(tunnel.settings, FAMILY), *names)
    assert found["paired"]["hit_at_1"]["difference"] == (0.2 if first else -0.2)
