"""Gates: three answers, never a silent one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.evaluation.gates import GateError, Verdict, decide

PASS, FAIL, OPEN = Verdict.PASS.value, Verdict.FAIL.value, Verdict.INCONCLUSIVE.value


def gate(operator: str = "gte", **fields: Any) -> dict[str, Any]:
    target = {} if "reference" in fields else {"threshold": 0.8}
    return {"name": "g", "metric": "recall", "operator": operator, **target, **fields}


def measured(value: float, low: float, high: float, n: int = 400, sd: float | None = 0.3) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "sd": sd}


def judged(
    *gates: dict[str, Any],
    summary: dict[str, Any] | None = None,
    against: dict[str, tuple[float, float, float]] | None = None,
    champion: str | None = "1.0.0",
) -> dict[str, Any]:
    comparisons = {
        name: {"recall": {"difference": value, "low": low, "high": high, "n": 400, "sd": 0.3}}
        for name, (value, low, high) in (against or {}).items()
    }
    split = {"summary": {"recall": summary} if summary else {}, "comparisons": comparisons}
    return decide({"gates": list(gates), "confidence": 0.95, "champion": champion, "splits": {"test": split}})


def answer(operator: str, value: float, low: float, high: float, **fields: Any) -> str:
    return judged(gate(operator, **fields), summary=measured(value, low, high))["verdict"]


class TestThreshold:
    @pytest.mark.parametrize(
        ("operator", "interval", "expected"),
        [
            ("gte", (0.9, 0.8, 0.95), PASS),
            ("gt", (0.9, 0.8, 0.95), OPEN),
            ("gt", (0.9, 0.81, 0.95), PASS),
            ("gte", (0.7, 0.6, 0.8), OPEN),
            ("gt", (0.7, 0.6, 0.8), FAIL),
            ("gte", (0.7, 0.6, 0.79), FAIL),
            ("lt", (0.7, 0.6, 0.79), PASS),
            ("lt", (0.9, 0.8, 0.95), FAIL),
            ("lte", (0.9, 0.8, 0.95), OPEN),
            ("lte", (0.7, 0.6, 0.8), PASS),
            ("eq", (0.8, 0.8, 0.8), PASS),
            ("eq", (0.8, 0.7, 0.9), OPEN),
            ("eq", (0.9, 0.85, 0.95), FAIL),
        ],
    )
    def test_the_interval_decides(self, operator: str, interval: tuple[float, float, float], expected: str) -> None:
        assert answer(operator, *interval) == expected

    def test_a_point_is_always_decided(self) -> None:
        assert answer("lte", 0.8, 0.8, 0.8) == PASS
        assert answer("lt", 0.8, 0.8, 0.8) == FAIL

    def test_a_good_mean_is_not_enough(self) -> None:
        outcome = judged(gate(), summary=measured(0.85, 0.7, 0.95, n=30))
        assert outcome["verdict"] == OPEN
        assert outcome["gates"][0]["blocks"]
        assert "examples would decide it" in outcome["why"][0]


class TestNeeded:
    def test_the_n_that_would_decide_follows_from_the_spread(self) -> None:
        found = judged(gate(), summary=measured(0.83, 0.79, 0.87, n=100, sd=0.2))["gates"][0]
        assert found["n_needed"] == math.ceil((1.959963985 * 0.2 / 0.03) ** 2)

    def test_it_is_more_than_there_were(self) -> None:
        found = judged(gate(), summary=measured(0.83, 0.79, 0.87, n=5000, sd=0.01))["gates"][0]
        assert found["n_needed"] == 5001

    def test_without_a_spread_the_interval_itself_tells(self) -> None:
        found = judged(gate(), summary=measured(0.9, 0.7, 1.0, n=100, sd=0.0))["gates"][0]
        assert found["n_needed"] == pytest.approx(400, abs=1)

    def test_on_the_line_no_number_decides(self) -> None:
        outcome = judged(gate(), summary=measured(0.8, 0.7, 0.9))
        assert outcome["gates"][0]["n_needed"] is None
        assert outcome["n_needed"] is None
        assert "would not decide" in outcome["why"][0]

    def test_the_overall_number_decides_every_gate(self) -> None:
        gates = [gate(name="a"), gate(name="b", threshold=0.82)]
        outcome = judged(*gates, summary=measured(0.83, 0.75, 0.9))
        assert outcome["n_needed"] == max(found["n_needed"] for found in outcome["gates"])


class TestReference:
    @pytest.mark.parametrize(
        ("operator", "margin", "interval", "expected"),
        [
            ("gt", 0.0, (0.05, 0.01, 0.09), PASS),
            ("gt", 0.0, (0.05, -0.01, 0.09), OPEN),
            ("gt", 0.0, (-0.05, -0.09, 0.0), FAIL),
            ("gte", 0.02, (-0.01, -0.015, 0.01), PASS),
            ("gte", 0.02, (-0.01, -0.03, 0.01), OPEN),
            ("gte", 0.02, (-0.05, -0.06, -0.03), FAIL),
            ("gt", -0.05, (0.05, 0.01, 0.09), OPEN),
            ("gt", -0.05, (0.08, 0.06, 0.1), PASS),
            ("lte", 0.02, (0.01, 0.0, 0.02), PASS),
            ("eq", 0.02, (0.0, -0.01, 0.01), PASS),
            ("eq", 0.02, (0.0, -0.03, 0.01), OPEN),
            ("eq", 0.02, (0.1, 0.05, 0.15), FAIL),
        ],
    )
    def test_the_paired_difference_decides(
        self, operator: str, margin: float, interval: tuple[float, float, float], expected: str
    ) -> None:
        outcome = judged(gate(operator, reference="bm25", margin=margin), against={"bm25": interval})
        assert outcome["verdict"] == expected

    def test_without_a_champion_there_is_nothing_to_hold(self) -> None:
        outcome = judged(gate(reference="champion"), champion=None)
        assert outcome["verdict"] == PASS
        assert outcome["gates"][0]["value"] is None
        assert "no champion serves yet" in outcome["why"][0]

    def test_a_champion_that_was_not_compared_is_no_pass(self) -> None:
        with pytest.raises(GateError, match="champion"):
            judged(gate(reference="champion"), against={"bm25": (0.1, 0.05, 0.2)})


class TestActions:
    def test_only_fail_blocks(self) -> None:
        gates = [gate(name=action, action=action) for action in ("pass", "warn", "fail")]
        outcome = judged(*gates, summary=measured(0.5, 0.4, 0.6))
        assert [found["blocks"] for found in outcome["gates"]] == [False, False, True]
        assert outcome["verdict"] == FAIL
        assert outcome["why"][0].startswith("fail:")
        assert judged(*gates[:2], summary=measured(0.5, 0.4, 0.6))["verdict"] == PASS

    def test_a_failure_outweighs_an_open_question(self) -> None:
        gates = [gate(name="open", threshold=0.5), gate(name="failed")]
        assert judged(*gates, summary=measured(0.5, 0.4, 0.6))["verdict"] == FAIL

    def test_an_inconclusive_gate_never_ships(self) -> None:
        gates = [gate(name="fine", threshold=0.1), gate(name="open", threshold=0.5)]
        assert judged(*gates, summary=measured(0.5, 0.4, 0.6))["verdict"] == OPEN


class TestWrongInput:
    def test_an_unmeasured_metric_is_told_not_passed(self) -> None:
        with pytest.raises(GateError, match="recal"):
            judged({**gate(), "metric": "recal"}, summary=measured(0.9, 0.8, 1.0))

    def test_an_unmeasured_split_is_told(self) -> None:
        with pytest.raises(GateError, match="holdout"):
            judged(gate(split="holdout"), summary=measured(0.9, 0.8, 1.0))

    @pytest.mark.parametrize(
        "record",
        [
            measured(float("nan"), 0.0, 1.0),
            measured(0.9, 0.1, 0.2),
            measured(0.9, 0.8, 1.0, n=0),
            {"value": 0.9},
        ],
    )
    def test_a_broken_measurement_is_refused(self, record: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            judged(gate(), summary=record)


ORDER = {FAIL: 0, OPEN: 1, PASS: 2}
unit = st.floats(0, 1)


@given(st.lists(unit, min_size=3, max_size=3).map(sorted), unit, unit)
def test_a_stricter_threshold_never_helps(interval: list[float], first: float, second: float) -> None:
    low, value, high = interval
    loose, strict = sorted((first, second))
    for operator in ("gt", "gte"):
        verdicts = [answer(operator, value, low, high, threshold=threshold) for threshold in (loose, strict)]
        assert ORDER[verdicts[0]] >= ORDER[verdicts[1]]
    for operator in ("lt", "lte"):
        verdicts = [answer(operator, value, low, high, threshold=threshold) for threshold in (loose, strict)]
        assert ORDER[verdicts[0]] <= ORDER[verdicts[1]]


@given(st.lists(unit, min_size=3, max_size=3).map(sorted), unit)
def test_a_gate_and_its_opposite_agree(interval: list[float], threshold: float) -> None:
    low, value, high = interval
    opposite = {PASS: FAIL, FAIL: PASS, OPEN: OPEN}
    for one, other in (("gt", "lte"), ("gte", "lt")):
        there = answer(one, value, low, high, threshold=threshold)
        assert answer(other, value, low, high, threshold=threshold) == opposite[there]


@given(st.lists(unit, min_size=3, max_size=3).map(sorted), unit, unit)
def test_a_narrower_interval_never_changes_a_decided_answer(
    interval: list[float], threshold: float, shrink: float
) -> None:
    low, value, high = interval
    wide = answer("gte", value, low, high, threshold=threshold)
    narrow = answer(
        "gte",
        value,
        min(value, low + shrink * (value - low)),
        max(value, high - shrink * (high - value)),
        threshold=threshold,
    )
    assert wide in (narrow, OPEN)


class TestKnownCases:
    def judged(self, cases: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        split = {"summary": {"recall": measured(0.9, 0.85, 0.95)}}
        given = {"gates": [gate()], "confidence": 0.95, "champion": None, "splits": {"test": split}}
        return decide({**given, "cases": cases, **more})

    def test_none_and_all_right_pass(self) -> None:
        assert [each["name"] for each in self.judged(None)["gates"]] == ["g"]
        assert self.judged({"n": 0, "failed": []})["verdict"] == PASS
        assert self.judged({"n": 3, "failed": []})["gates"][1] | {"why": ""} == {
            "name": "known_cases", "metric": "known_cases", "split": "test", "asks": "every one of them right",
            "action": "fail", "verdict": PASS, "value": 1.0, "low": 1.0, "high": 1.0, "n": 3, "n_needed": None,
            "blocks": False, "why": "",
        }  # fmt: skip

    def test_one_wrong_blocks_and_many_are_named_as_far_as_there_is_room(self) -> None:
        wrong = [{"id": f"case-{n}", "asks": "hit >= 1", "found": "hit is 0"} for n in range(9)]
        outcome = self.judged({"n": 20, "failed": wrong})
        assert outcome["verdict"] == FAIL and outcome["n_needed"] is None
        assert "9 of 20 are wrong: case-0 (hit is 0; asked for hit >= 1)" in outcome["why"][0]
        assert "and 4 more" in outcome["why"][0]

    @pytest.mark.parametrize("action", ["warn", "pass"])
    def test_a_warning_does_not_block(self, action: str) -> None:
        wrong = {"n": 1, "failed": [{"id": "a", "asks": "hit >= 1", "found": "hit is 0"}]}
        assert self.judged(wrong, cases_action=action)["verdict"] == PASS


def test_what_could_not_be_measured_is_open_and_says_why() -> None:
    split = {"summary": {}, "unknown": {"recall": "nobody looked"}}
    given = {"gates": [gate()], "confidence": 0.95, "champion": None, "splits": {"test": split}}
    outcome = decide(given)
    assert (outcome["verdict"], outcome["n_needed"]) == (OPEN, None)
    assert outcome["why"] == ["g: recall is not known: nobody looked: INCONCLUSIVE"]
