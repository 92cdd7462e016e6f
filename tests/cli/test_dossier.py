"""`windtunnel dossier`: one screen for the person on call, one document for programs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from include.release.ledger import Ledger
from include.spec import family_names
from tests.cli.conftest import FAMILY, Result

Windtunnel = Callable[..., Result]
pytestmark = pytest.mark.skipif(FAMILY not in family_names(), reason="the family's spec")

_SCREEN = 40  # lines


def test_what_serves_comes_first_and_all_of_it_fits_on_a_screen(windtunnel: Windtunnel, story: Ledger) -> None:
    shown = windtunnel("dossier", FAMILY)
    lines = shown.out.splitlines()
    assert shown.code == 0 and len(lines) < _SCREEN
    assert lines[0].startswith(f"{FAMILY} 1.0.0: the champion, answers 95% of the traffic")
    assert f"windtunnel rollout abort {FAMILY}" in shown.out
    problems = [line for line in lines if line.startswith("  ! ")]
    assert any("package is gone" in line for line in problems)


def test_a_program_gets_everything(windtunnel: Windtunnel, story: Ledger) -> None:
    found = windtunnel("dossier", FAMILY, "1.1.0", "--json").json
    assert found["standing"]["share"] == 0.05 and found["standing"]["stage"] == "canary"
    assert found["traffic"][0]["generation"] == 2
    assert found["quality"]["metrics"]["recall_at_10"]["n"] == 120


def test_an_unknown_version_is_told(windtunnel: Windtunnel, story: Ledger) -> None:
    result = windtunnel("dossier", FAMILY, "7.0.0")
    assert result.code == 2 and "no version '7.0.0'" in result.err and "1.1.0" in result.err
