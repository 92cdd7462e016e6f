"""Who answers whom: sticky, proportional, and never without a champion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.release.routing import Role, RoutingTable, Variant, assign, unit_point

OLD = Variant(role=Role.CHAMPION, version="1.0.0", digest="a" * 64)
NEW = Variant(role=Role.CHALLENGER, version="1.1.0", digest="b" * 64)
share = st.floats(0, 1)


def table(weight: float, rollout: str = "r") -> RoutingTable:
    return RoutingTable(champion=OLD, challenger=NEW, challenger_share=weight, rollout=rollout)


@given(st.text(), st.text())
def test_a_point_lies_in_the_unit_interval_and_stays(salt: str, unit: str) -> None:
    assert 0.0 <= unit_point(salt, unit) < 1.0
    assert unit_point(salt, unit) == unit_point(salt, unit)


@given(st.text(), share, share)
def test_a_unit_that_came_to_the_challenger_stays_while_the_share_grows(unit: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if assign(table(small), unit) == NEW:
        assert assign(table(large), unit) == NEW


@given(st.text())
def test_the_ends_are_all_or_nothing(unit: str) -> None:
    assert assign(table(0.0), unit) == OLD
    assert assign(table(1.0), unit) == NEW
    assert assign(RoutingTable(champion=OLD, challenger=NEW, shadow=True), unit) == OLD
    assert assign(RoutingTable(champion=OLD), unit) == OLD


@pytest.mark.parametrize("weight", [0.05, 0.5, 0.9])
def test_the_share_of_units_is_the_share_asked_for(weight: float) -> None:
    units = 20_000
    seen = sum(assign(table(weight), f"user-{number}") == NEW for number in range(units)) / units
    assert seen == pytest.approx(weight, abs=4 * (weight * (1 - weight) / units) ** 0.5)


def test_every_rollout_draws_its_own_units() -> None:
    chosen = [
        {unit for unit in range(5000) if assign(table(0.05, rollout), str(unit)) == NEW} for rollout in ("r1", "r2")
    ]
    assert len(chosen[0] & chosen[1]) < 0.2 * len(chosen[0])


@pytest.mark.parametrize(
    "fields",
    [
        {"challenger_share": 0.1},
        {"shadow": True},
        {"challenger": NEW, "shadow": True, "challenger_share": 0.1},
        {"challenger": NEW, "challenger_share": 1.1},
        {"challenger": NEW, "challenger_share": float("nan")},
        {"champion": None},
        {"weights": {}},
    ],
)
def test_impossible_tables_are_refused(fields: dict) -> None:
    with pytest.raises(ValidationError):
        RoutingTable(**{"champion": OLD, **fields})
