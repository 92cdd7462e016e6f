"""Who answers whom: sticky, proportional, and never without a champion."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.release.routing import Arm, Role, RoutingTable, Variant, assign, unit_point

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


def arms(*weights: float) -> RoutingTable:
    variants = [OLD, *(NEW.model_copy(update={"version": f"1.{number}.0"}) for number in range(1, len(weights)))]
    given_arms = tuple(Arm(variant=variant, weight=weight) for variant, weight in zip(variants, weights, strict=True))
    return RoutingTable(champion=OLD, rollout="e", arms=given_arms)


class TestExperiments:
    @given(st.text(), st.lists(st.floats(0.01, 10), min_size=2, max_size=6), st.data())
    def test_a_variant_that_grows_keeps_its_units_and_others_lose_units_to_it_only(
        self, unit: str, weights: list[float], data: st.DataObject
    ) -> None:
        grown = data.draw(st.integers(0, len(weights) - 1))
        larger = [weight * (3.0 if number == grown else 1.0) for number, weight in enumerate(weights)]
        before, after = assign(arms(*weights), unit), assign(arms(*larger), unit)
        assert after in (before, arms(*weights).arms[grown].variant)

    @pytest.mark.parametrize("weights", [(1, 1), (8, 1, 1), (1, 2, 3, 4)])
    def test_units_come_in_the_proportion_of_the_weights(self, weights: tuple[float, ...]) -> None:
        table, units = arms(*weights), 20_000
        seen = Counter(assign(table, f"user-{number}").version for number in range(units))
        for version, share in table.shares.items():
            assert seen[version] / units == pytest.approx(share, abs=4 * (share * (1 - share) / units) ** 0.5)

    def test_the_scale_of_the_weights_does_not_matter(self) -> None:
        assert all(assign(arms(1, 2, 3), str(unit)) == assign(arms(10, 20, 30), str(unit)) for unit in range(200))

    def test_every_experiment_draws_its_own_units(self) -> None:
        first = arms(1, 1)
        second = first.model_copy(update={"rollout": "other"})
        same = sum(assign(first, str(unit)) == assign(second, str(unit)) for unit in range(4000))
        assert 1800 < same < 2200

    @pytest.mark.parametrize(
        "fields",
        [
            {"arms": [{"variant": OLD, "weight": 1}]},
            {"arms": [{"variant": NEW, "weight": 1}, {"variant": OLD, "weight": 1}]},
            {"arms": [{"variant": OLD, "weight": 1}, {"variant": NEW, "weight": 0}]},
            {"arms": [{"variant": OLD, "weight": 1}, {"variant": NEW, "weight": 1}, {"variant": NEW, "weight": 1}]},
            {"arms": [{"variant": OLD, "weight": 1}, {"variant": NEW, "weight": 1}], "challenger": NEW},
        ],
    )
    def test_impossible_experiments_are_refused(self, fields: dict) -> None:
        with pytest.raises(ValidationError):
            RoutingTable.model_validate({"champion": OLD, **fields})
