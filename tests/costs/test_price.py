"""Money: from seconds and prices, and honest about what is not known."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from include.costs.price import Usage, asked_for, cost_record, money, price_text, total, used_by
from include.spec.costs import PricesSpec
from include.spec.quantities import amount, cores, gibibytes
from include.spec.resources import ResourcesSpec
from tests.fakes.tiny_family import tiny_spec

PRICES = {"currency": "CHF", "cpu_hour": 0.05, "gib_hour": 0.01, "gpu_hour": {"H100": 4.0, "any": 2.0}}


def _resources(**changes: Any) -> ResourcesSpec:
    return ResourcesSpec.model_validate({"cpu": "2", "memory": "4Gi", "prices": PRICES} | changes)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("500m", 0.5), ("8Gi", 8 * 2**30), ("1.5G", 1.5e9), ("64Mi", 2**26), ("1e3", 1000), ("0", 0)],
)
def test_quantities(text: str, value: float) -> None:
    assert amount(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "-1", "2 cores", "8GB", "1e", "0x10", "nan"])
def test_what_is_no_quantity_is_refused_in_the_spec(text: str) -> None:
    with pytest.raises(ValueError):
        amount(text)
    with pytest.raises(ValidationError, match="quantity"):
        ResourcesSpec(memory=text)


def test_units() -> None:
    assert cores("250m") == 0.25 and gibibytes("512Mi") == 0.5
    assert asked_for(_resources(gpu=2), 10) == Usage(20, 40, 20)
    attempt = {"seconds": 10, "cpu_seconds": 7, "peak_bytes": 2**30}
    assert used_by(_resources(gpu=1), attempt) == Usage(7, 10, 10)
    assert used_by(_resources(), {"seconds": 10, "cpu_seconds": None}) == Usage(0, 0, 0)


def test_money_by_kind_of_gpu() -> None:
    prices = PricesSpec.model_validate(PRICES)
    hour = Usage(3600, 3600, 3600)
    assert money(hour, prices, "H100") == pytest.approx(0.05 + 0.01 + 4)
    assert money(hour, prices, "T4") == money(hour, prices, None) == pytest.approx(2.06)
    only = PricesSpec(gpu_hour={"H100": 4.0})
    assert money(hour, only, "H100") == 4.0  # the rest is part of it
    assert money(hour, only, "T4") is None
    assert money(Usage(3600), only, None) == 0.0


def test_what_is_not_known_is_not_zero() -> None:
    record = cost_record(_resources(prices={}), "local", [{"seconds": 5.0}])
    assert record["money"] is None and record["currency"] is None
    assert price_text(record) == price_text({}) == "n/a"


@pytest.mark.parametrize(
    ("amount_", "text"), [(12.345, "12.35 CHF"), (0.00123, "0.00123 CHF"), (1, "1.00 CHF"), (0, "0.00 CHF")]
)
def test_small_amounts_are_shown(amount_: float, text: str) -> None:
    assert price_text({"money": amount_, "currency": "CHF"}) == text


def test_a_pod_pays_for_what_it_asked_for_and_a_process_for_what_it_used() -> None:
    attempts = [{"seconds": 1800}, {"seconds": 1800, "cpu_seconds": 360, "peak_bytes": 2**30}]
    pod, process = (cost_record(_resources(), runner, attempts) for runner in ("kubernetes", "local"))
    assert pod["tries"] == 2 and pod["seconds"] == 3600
    assert pod["money"] == pytest.approx(2 * 0.05 + 4 * 0.01)
    assert process["money"] == pytest.approx(0.1 * 0.05 + 0.5 * 0.01)
    assert (pod["basis"], process["basis"]) == ("asked", "used")
    assert pod["used"] == process["used"]


def test_a_sum_with_a_hole_is_no_sum() -> None:
    known = cost_record(_resources(), "local", [{"seconds": 10, "cpu_seconds": 3600}])
    unknown = cost_record(_resources(prices={}), "local", [{"seconds": 10, "cpu_seconds": 3600}])
    francs = total([known, known])
    assert francs["money"] == pytest.approx(2 * known["money"]) and francs["currency"] == "CHF"
    assert francs["used"]["cpu_seconds"] == 7200 and francs["tries"] == 2
    assert total([known, unknown])["money"] is None
    euros = {**known, "currency": "EUR"}
    assert total([known, euros])["money"] is None
    assert total([])["money"] is None


def test_a_budget_in_money_needs_prices() -> None:
    sweep = {"metric": "hit_at_1", "budget": {"money": 5}, "space": {"lr": {"kind": "float", "low": 0.1, "high": 1.0}}}
    with pytest.raises(ValidationError, match=r"resources\.prices has no price"):
        tiny_spec(sweep=sweep)
    assert tiny_spec(sweep=sweep, resources={"prices": PRICES}).sweep.budget.money == 5
