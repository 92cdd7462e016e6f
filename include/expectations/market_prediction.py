"""What the credit-card clients of market_prediction must satisfy.

Quarantine is for what cannot be true or has no meaning: a code that the documentation does not know, a negative
payment. What is odd and happens to thousands of real clients is a warning: whoever trains on the data should know it,
and would lose a fifth of the clients without it.

Imports Great Expectations: see `include.expectations.compliance_qa`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa
from great_expectations.expectations.expectation import Expectation  # noqa: TID253

from include.expectations.forms import absent, between, matches, one_of, with_faults
from include.expectations.known import Known
from include.families.market_prediction.schema import (
    BILLS,
    CLIENTS,
    EDUCATIONS,
    GENDERS,
    MARRIAGES,
    PAY_STATUSES,
    PAYMENTS,
    SCHEMAS,
    STATUSES,
)

VERSION = "1.0.0"
TABLES = (CLIENTS,)
BINDING = frozenset({"wrong_key"})

ADULT, OLDEST = 18, 100
USUAL_LIMIT_STEP = 10_000
FAR_ABOVE = 2.0  # bills of this many times the limit
MISSING_SHARE = 0.1  # of the limit, by which the bills may fail to add up


def prepare(table: str, rows: pa.Table, known: Known) -> pa.Table:
    """`rows` with the columns that only expectations look at."""
    return with_faults(
        rows,
        SCHEMAS[table],
        {
            "unknown_status": _unknown_status,
            "negative_payment": lambda row: next((name for name in PAYMENTS if row[name] < 0), None),
            "fast_delay": lambda row: _delay_jump(row, 3),
            "skipped_month": lambda row: _delay_jump(row, 2),
            "late_without_bill": _late_without_bill,
            "unexplained_bill": _unexplained_bill,
            "huge_bill": lambda row: _first_above(row, BILLS, FAR_ABOVE),
            "overpaid": lambda row: _first_above(row, BILLS, 1.0, sign=-1),
            "odd_limit": lambda row: "odd" if row["credit_limit"] % USUAL_LIMIT_STEP else None,
        },
    )


def suite(table: str) -> list[Expectation]:
    """The expectations of a table."""
    return [
        matches("client_id", r"^[1-9]\d*$", "wrong_key", "the client's number is a whole number"),
        between("credit_limit", 1, None, "no_credit_limit", "the limit is above 0"),
        one_of("gender", GENDERS, "unknown_gender_code", "1 male, 2 female"),
        one_of("education", EDUCATIONS, "unknown_education_code", "1 to 4, as documented (the data also has 0, 5, 6)"),
        one_of("marriage", MARRIAGES, "unknown_marriage_code", "1 to 3, as documented (the data also has 0)"),
        between("age", ADULT, OLDEST, "age_out_of_range", f"between {ADULT} and {OLDEST} years"),
        absent(
            "unknown_status",
            "unknown_pay_status",
            f"every status is in {PAY_STATUSES.start} to {PAY_STATUSES.stop - 1}",
        ),
        absent("negative_payment", "negative_payment", "no payment is negative"),
        absent("fast_delay", "delay_grows_too_fast", "a delay grows by at most two months from one month to the next"),
        absent(
            "skipped_month",
            "delay_skips_a_month",
            "a delay grows by at most one month from one month to the next (the bank seldom recorded a first month)",
            warns=True,
        ),
        absent(
            "late_without_bill",
            "late_without_a_bill",
            "who is late has had a bill to pay in the last six months",
            warns=True,
        ),
        absent(
            "unexplained_bill",
            "bills_do_not_add_up",
            f"bill = bill before - payment + new charges, and these are not below -{MISSING_SHARE:.0%} of the limit",
            warns=True,
        ),
        absent("huge_bill", "bill_far_above_limit", f"no bill is above {FAR_ABOVE:g} times the limit", warns=True),
        absent("overpaid", "credit_beyond_limit", "the bank owes no client more than the client's limit", warns=True),
        absent("odd_limit", "odd_credit_limit", f"the limit is a multiple of {USUAL_LIMIT_STEP}", warns=True),
    ]


def _unknown_status(row: Mapping[str, Any]) -> str | None:
    return next((f"{name} {row[name]}" for name in STATUSES if row[name] not in PAY_STATUSES), None)


def _delay_jump(row: Mapping[str, Any], months: int) -> str | None:
    """The first month in which the delay is at least `months` longer than the month before."""
    for newer, older in pairwise(STATUSES):
        if row[newer] - max(row[older], 0) >= months:
            return f"{older} {row[older]}, {newer} {row[newer]}"
    return None


def _late_without_bill(row: Mapping[str, Any]) -> str | None:
    return "late" if row[STATUSES[0]] >= 1 and all(row[name] <= 0 for name in BILLS) else None


def _unexplained_bill(row: Mapping[str, Any]) -> str | None:
    """The first month whose bill is lower than what was left of the bill before, by more than refunds explain."""
    for month, (newer, older) in enumerate(pairwise(BILLS)):
        charges = row[newer] - row[older] + row[PAYMENTS[month]]
        if charges < -MISSING_SHARE * row["credit_limit"]:
            return newer
    return None


def _first_above(row: Mapping[str, Any], columns: tuple[str, ...], times: float, sign: int = 1) -> str | None:
    limit = row["credit_limit"]
    return next((name for name in columns if sign * row[name] > times * limit > 0), None)
