"""The suite of market_prediction: what no client can be, and what many odd clients are."""

from __future__ import annotations

from typing import Any

from include.families.market_prediction.schema import BILLS, PAYMENTS, STATUSES
from tests.expectations.conftest import Check

GOOD: dict[str, Any] = {
    "client_id": "7", "credit_limit": 50_000, "gender": 1, "education": 2, "marriage": 1, "age": 40,
    **dict.fromkeys(STATUSES, 0), **dict.fromkeys(BILLS, 10_000), **dict.fromkeys(PAYMENTS, 500),
    "defaults": False,
}  # fmt: skip


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"client_id": "x7"}, "wrong_key"),
    ({"credit_limit": 0}, "no_credit_limit"),
    ({"gender": 3}, "unknown_gender_code"),
    ({"education": 5}, "unknown_education_code"),
    ({"education": 0}, "unknown_education_code"),
    ({"marriage": 0}, "unknown_marriage_code"),
    ({"age": 17}, "age_out_of_range"),
    ({"age": 101}, "age_out_of_range"),
    ({"pay_status_6": -3}, "unknown_pay_status"),
    ({**dict.fromkeys(STATUSES, 9), "pay_status_1": 10}, "unknown_pay_status"),
    ({"pay_status_2": 3}, "delay_grows_too_fast"),
    ({"paid_amount_4": -1}, "negative_payment"),
]
ODD: list[tuple[dict[str, Any], str]] = [
    ({"pay_status_3": 2}, "delay_skips_a_month"),
    ({"pay_status_1": 1, **dict.fromkeys(BILLS, 0)}, "late_without_a_bill"),
    ({"bill_amount_2": 4_000, "paid_amount_2": 0}, "bills_do_not_add_up"),
    ({"bill_amount_1": 100_001}, "bill_far_above_limit"),
    ({"bill_amount_6": -50_001}, "credit_beyond_limit"),
    ({"credit_limit": 55_000}, "odd_credit_limit"),
]


def test_what_cannot_be_goes_to_quarantine(check: Check) -> None:
    reasons, _ = check("market_prediction", "clients", [GOOD | change for change, _ in IMPOSSIBLE])
    assert reasons == [[reason] for _, reason in IMPOSSIBLE]


def test_what_is_only_odd_is_counted_and_stays(check: Check) -> None:
    reasons, warnings = check("market_prediction", "clients", [GOOD, *(GOOD | change for change, _ in ODD)])
    assert reasons == [[]] * (len(ODD) + 1)
    assert warnings == {warning: 1 for _, warning in ODD}


def test_a_client_who_is_in_order_passes(check: Check) -> None:
    late = {name: 7 - month for month, name in enumerate(STATUSES, 1)}  # a delay that grows month by month
    idle = dict.fromkeys(STATUSES, -2)  # not documented, and usual
    paid = {"bill_amount_2": 4_000, "paid_amount_2": 6_000}  # a bill that shrank by what was paid
    assert check("market_prediction", "clients", [GOOD, GOOD | late, GOOD | idle, GOOD | paid]) == ([[]] * 4, {})


def test_a_row_without_a_value_is_left_to_the_gate(check: Check) -> None:
    assert check("market_prediction", "clients", [GOOD | {"age": None, "pay_status_1": None}])[0] == [[]]
