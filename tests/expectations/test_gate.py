"""The gate says of every row which expectations it failed, and never passes what it could not check."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest


@pytest.fixture(scope="module")
def gxe() -> Any:
    """Great Expectations' expectations; importing them takes seconds, so only these tests do."""
    import great_expectations.expectations as expectations

    return expectations


@pytest.fixture(scope="module")
def gate() -> Any:
    from include.expectations import gate as module

    return module


ROWS = pa.table({"text": ["a", "", "ccc", None, ""], "n": [1, 2, 3, 4, 50]})


def test_every_row_is_told_all_that_it_failed(gate: Any, gxe: Any) -> None:
    outcome = gate.run_suite(
        "s",
        [
            gxe.ExpectColumnValuesToMatchRegex(
                column="text", regex=r"\S", description="has text", meta={"reason": "empty"}
            ),
            gxe.ExpectColumnValuesToNotBeNull(column="text", meta={"reason": "no_text"}),
            gxe.ExpectColumnValuesToBeBetween(column="n", max_value=10, meta={"reason": "too_large"}),
        ],
        ROWS,
    )
    assert outcome.reasons == {1: ["empty"], 3: ["no_text"], 4: ["empty", "too_large"]}
    assert [(count.reason, count.failed, count.evaluated) for count in outcome.counts] == [
        ("empty", 2, 5),
        ("no_text", 1, 5),
        ("too_large", 1, 5),
    ]
    assert outcome.counts[0].description == "has text"


def test_a_row_that_only_a_warning_is_about_stays_clean(gate: Any, gxe: Any) -> None:
    rows = ROWS.append_column("place", pa.array([f"f:{number}" for number in range(1, 6)]))
    outcome = gate.run_suite(
        "s",
        [
            gxe.ExpectColumnValuesToBeBetween(column="n", max_value=10, meta={"reason": "too_large"}),
            gxe.ExpectColumnValuesToBeBetween(
                column="n", max_value=3, severity="warning", meta={"reason": "rather_large"}
            ),
        ],
        rows,
    )
    assert outcome.reasons == {4: ["too_large"]}
    assert [(count.failed, count.warns, count.samples) for count in outcome.counts] == [
        (1, False, []),
        (2, True, ["f:4", "f:5"]),
    ]


def test_many_rows_are_checked_in_batches_without_losing_their_number(
    gate: Any, gxe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "ROWS_PER_BATCH", 7)
    bad = {0, 6, 7, 13, 19}
    rows = pa.table({"n": [99 if number in bad else 1 for number in range(20)]})
    suite = [gxe.ExpectColumnValuesToBeBetween(column="n", max_value=10, meta={"reason": "too_large"})]
    outcome = gate.run_suite("s", suite, rows)
    assert set(outcome.reasons) == bad
    assert (outcome.counts[0].evaluated, outcome.counts[0].failed) == (20, 5)


def test_more_failures_than_the_library_shows_by_default(gate: Any, gxe: Any) -> None:
    suite = [gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"\S", meta={"reason": "empty"})]
    assert len(gate.run_suite("s", suite, pa.table({"text": [""] * 1_000})).reasons) == 1_000


def test_an_empty_table_passes(gate: Any, gxe: Any) -> None:
    suite = [gxe.ExpectColumnValuesToNotBeNull(column="text", meta={"reason": "no_text"})]
    outcome = gate.run_suite("s", suite, ROWS.slice(0, 0))
    assert outcome.reasons == {}
    assert outcome.counts[0].evaluated == 0


def test_a_table_of_nulls_is_checked(gate: Any, gxe: Any) -> None:
    suite = [gxe.ExpectColumnValuesToBeNull(column="fault", meta={"reason": "faulty"})]
    assert gate.run_suite("s", suite, pa.table({"fault": pa.array([None, None], pa.string())})).reasons == {}


def test_an_expectation_without_a_reason_is_refused(gate: Any, gxe: Any) -> None:
    with pytest.raises(gate.SuiteError, match="reason"):
        gate.run_suite("s", [gxe.ExpectColumnValuesToNotBeNull(column="text")], ROWS)


def test_two_expectations_with_one_reason_are_refused(gate: Any, gxe: Any) -> None:
    same = [gxe.ExpectColumnValuesToNotBeNull(column=name, meta={"reason": "x"}) for name in ("text", "n")]
    with pytest.raises(gate.SuiteError, match="reason"):
        gate.run_suite("s", same, ROWS)


def test_an_expectation_that_cannot_be_evaluated_stops_the_run(gate: Any, gxe: Any) -> None:
    suite = [gxe.ExpectColumnValuesToBeBetween(column="text", max_value=10, meta={"reason": "x"})]
    with pytest.raises(gate.SuiteError, match="could not be evaluated"):
        gate.run_suite("s", suite, ROWS)


def test_an_expectation_about_the_whole_table_is_refused(gate: Any, gxe: Any) -> None:
    suite = [gxe.ExpectTableRowCountToBeBetween(min_value=1, meta={"reason": "x"})]
    with pytest.raises(gate.SuiteError, match="is not about rows"):
        gate.run_suite("s", suite, ROWS)


def test_the_library_is_quiet_and_sends_nothing(
    gate: Any,
    gxe: Any,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    suite = [gxe.ExpectColumnValuesToNotBeNull(column="text", meta={"reason": "no_text"})]
    gate.run_suite("s", suite, ROWS)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert not caplog.records
