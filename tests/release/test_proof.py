"""`windtunnel card` and `cases check` on registered versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.cli import cases, proof
from include.cli.main import main
from include.evaluation.documents import keep
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    for module in (cases, proof):
        monkeypatch.setattr(module, "chosen_family", lambda name: FAMILY)
        monkeypatch.setattr(module, "live_settings", lambda: tunnel.settings)
    monkeypatch.setattr(cases, "cases_file", lambda family: tmp_path / "cases.jsonl")

    def call(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def documents(tunnel: Tunnel) -> dict[str, Any]:
    card = keep(tunnel.store, FAMILY, "model_card.md", b"# Tiny\nas judged")
    return {"card_key": card.key, "card_digest": card.digest}


def test_a_card_is_shown_as_it_was_registered_and_a_changed_one_is_noticed(tunnel: Tunnel, run: Run) -> None:
    kept = documents(tunnel)
    version = tunnel.register(**kept)["model_version"]
    assert run("card", FAMILY, version) == (0, "# Tiny\nas judged\n")
    code, said = run("card", FAMILY, version, "--report")
    assert code == 2 and "without a report" in said
    tunnel.store.put(kept["card_key"], b"# Tiny\nmuch better")
    code, said = run("card", FAMILY, version)
    assert code == 2 and "was changed" in said and "much better" not in said


def test_known_cases_are_asked_of_a_version(tunnel: Tunnel, run: Run) -> None:
    version = tunnel.register(tunnel.package(skill=1.0))["model_version"]
    case = {"metric": "hit_at_10", "at_least": 1, "inputs": {"question": "due?"}}
    (cases.cases_file(FAMILY)).write_text(
        json.dumps({"id": "due", "truth": {"answer": "DUE?"}, **case})
        + "\n"
        + json.dumps({"id": "odd", "truth": {"answer": "NO"}, **case})
    )
    code, said = run("cases", "check", FAMILY, "--version", version)
    assert code == 3 and f"{FAMILY} {version}: 1 of 2 cases come out right" in said and "odd: hit_at_10 is 0" in said
