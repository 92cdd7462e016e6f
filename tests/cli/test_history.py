"""versions, history and compare: what there is, who answered how much when, and what differs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from include.release.ledger import Ledger
from include.release.rollback import all_to
from include.spec import family_names
from tests.cli.conftest import AT, CHALLENGER, CHAMPION, FAMILY, Result

Windtunnel = Callable[..., Result]
pytestmark = pytest.mark.skipif(FAMILY not in family_names(), reason="the family's spec")


@pytest.fixture
def later(story: Ledger) -> Ledger:
    """An hour later somebody takes the challenger's traffic away."""
    at = AT + timedelta(hours=1)
    story.swap_route(FAMILY, 2, all_to(CHAMPION), reason="odd answers", actor="eve", at=at)
    return story


def test_history_tells_who_answered_how_much_and_why(windtunnel: Windtunnel, later: Ledger) -> None:
    periods = windtunnel("history", FAMILY, "--json").json
    assert [(one["version"], one["share"], one["until"] is None) for one in periods] == [
        ("1.0.0", 1.0, True), ("1.1.0", 0.05, False), ("1.0.0", 0.95, False), ("1.0.0", 1.0, False),
    ]  # fmt: skip
    assert periods[1]["seconds"] == 3600
    shown = windtunnel("history", FAMILY)
    assert "odd answers" in shown.out and "5%" in shown.out and "challenger, canary" in shown.out


@pytest.mark.parametrize(
    ("moment", "shares"),
    [
        ("2026-11-02T09:30", {"1.0.0": 0.95, "1.1.0": 0.05}),
        ("2026-11-02T11:30+02:00", {"1.0.0": 0.95, "1.1.0": 0.05}),
        ("2026-11-02T10:00:00", {"1.0.0": 1.0}),
        ("2026-11-02", None),
    ],
)
def test_any_moment_has_its_split(windtunnel: Windtunnel, later: Ledger, moment: str, shares: dict[str, float]) -> None:
    served = windtunnel("history", FAMILY, "--at", moment, "--json").json["served"]
    assert (served and {one["version"]: one["share"] for one in served["variants"]}) == shares
    shown = windtunnel("history", FAMILY, "--at", moment)
    assert ("nothing served" in shown.out) == (shares is None)


@pytest.mark.parametrize(("moment", "said"), [("yesterday", "no moment"), ("2999-01-01", "future")])
def test_a_moment_must_be_one_that_was(windtunnel: Windtunnel, story: Ledger, moment: str, said: str) -> None:
    result = windtunnel("history", FAMILY, "--at", moment)
    assert result.code == 2 and said in result.err


def test_versions_say_where_they_stand(windtunnel: Windtunnel, story: Ledger) -> None:
    newest, oldest = windtunnel("versions", FAMILY, "--json").json
    assert newest["standing"]["state"] == "in rollout" and oldest["standing"]["share"] == 0.95
    assert "serving 95%" in windtunnel("versions", FAMILY).out


def test_two_versions_side_by_side(windtunnel: Windtunnel, story: Ledger) -> None:
    found = windtunnel("compare", FAMILY, "1.0.0", "1.1.0", "--json").json
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["model digest"]["second"] == CHALLENGER.digest and not rows["model digest"]["same"]
    assert rows["hyperparameters.lr"]["same"] and found["same_data"]
    assert found["paired"] is None
    shown = windtunnel("compare", FAMILY, "1.0.0", "1.1.0").out
    assert "never evaluated on the same examples" in shown and "0.86 [0.83, 0.89]" in shown
    assert "hyperparameters.lr" in shown.partition("the same in both")[2]
    assert windtunnel("compare", FAMILY, "1.0.0", "7.0.0").code == 2
