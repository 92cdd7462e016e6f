"""Data Docs: what a person reads about a validation, safe whatever the data holds."""

from __future__ import annotations

from datetime import date

from include.data.records import DeliveryCheck, ExpectationCount, TableCheck
from include.expectations.docs import render


def check(rows_clean: int = 8, place: str = "f:1") -> DeliveryCheck:
    table = TableCheck(
        rows_in=10,
        rows_clean=rows_clean,
        rows_duplicate=1,
        min_valid_rate=0.9,
        reasons={"empty": 1, "duplicate": 1},
        samples={"empty": [place], "duplicate": ["f:2"]},
        clean_key="k",
        content="c",
        expectations=[ExpectationCount(reason="empty", description="has a text", evaluated=10, failed=1)],
    )
    return DeliveryCheck(
        delivery="2026-10-12",
        delivered_on=date(2026, 10, 12),
        digest="d" * 64,
        suite="s",
        tables={"rows": table},
        quarantine_key="q",
        keys_key="k",
    )


def test_counts_rates_and_places_are_shown() -> None:
    page = render("some_family", [check()])
    for words in (
        "10 rows came in, 8 are clean, 1 in quarantine, 1 are there already (duplicates)",
        "90.00% valid",
        "has a text",
        "f:2",
    ):
        assert words in page
    assert "passed" in page
    assert "under the minimum" not in page


def test_a_warning_is_shown_with_its_count_and_its_places() -> None:
    made = check()
    warning = ExpectationCount(
        reason="odd", description="looks odd", evaluated=10, failed=4, warns=True, samples=["<f>:7"]
    )
    table = made.tables["rows"].model_copy(update={"expectations": [*made.tables["rows"].expectations, warning]})
    page = render("some_family", [made.model_copy(update={"tables": {"rows": table}})])
    assert 'looks odd <span class="warn">(warns only' in page
    assert '<span class="warn">4</span>' in page
    assert "&lt;f&gt;:7" in page


def test_the_suite_and_what_was_waived_are_named() -> None:
    plain = check()
    waived = {"rows": plain.tables["rows"].model_copy(update={"waived": {"too_long": 2}})}
    made = plain.model_copy(update={"tables": waived, "suite_version": "1.2.0", "suite_digest": "e" * 64})
    page = render("some_family", [made])
    assert f"s 1.2.0 {'e' * 12}<" in page
    assert "<code>too_long</code> for 2" in page and "waived" not in render("some_family", [plain])


def test_a_table_under_its_minimum_is_marked() -> None:
    assert "under the minimum" in render("some_family", [check(rows_clean=5)])


def test_text_from_the_data_is_no_markup() -> None:
    page = render("<b>", [check(place="<script>alert(1)</script>")])
    assert "<script" not in page
    assert "<b>" not in page


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert "http" not in render("some_family", [check()])


def test_no_delivery() -> None:
    assert "nothing to check" in render("some_family", [])
