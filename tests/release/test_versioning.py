"""Version numbers of models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.release.versioning import (
    Change,
    Version,
    VersionError,
    classify,
    next_baseline,
    next_version,
    parse_version,
)
from include.spec.judging import GateSpec

SIGNATURE = {"inputs": {"question": "BYTES"}, "outputs": {"score": "FP32"}}
GATES = [
    GateSpec(name="quality", metric="recall", operator="gte", threshold=0.5),
    GateSpec(name="speed", metric="latency", operator="lte", threshold=100),
]
versions = st.builds(Version, *[st.integers(0, 30)] * 3).map(str)


class TestNumbers:
    def test_the_first_candidate_is_one(self) -> None:
        assert next_version([], Change.PATCH) == "1.0.0"
        assert next_version(["0.1.0", "0.1.1"], Change.MINOR) == "1.0.0"

    @pytest.mark.parametrize(
        ("change", "expected"), [(Change.MAJOR, "2.0.0"), (Change.MINOR, "1.11.0"), (Change.PATCH, "1.10.3")]
    )
    def test_the_highest_is_bumped_by_number_not_by_text(self, change: Change, expected: str) -> None:
        assert next_version(["1.9.9", "1.10.2", "0.9.0"], change) == expected

    def test_baselines_stay_below_one(self) -> None:
        assert next_baseline([]) == "0.1.0"
        assert next_baseline(["0.1.0", "3.2.1"]) == "0.1.1"

    @given(st.lists(versions), st.sampled_from(Change))
    def test_a_new_version_is_higher_than_all_before(self, known: list[str], change: Change) -> None:
        new = parse_version(next_version(known, change))
        assert all(new > parse_version(version) for version in known)
        assert new >= Version(1, 0, 0)

    @given(versions)
    def test_text_and_number_agree(self, text: str) -> None:
        assert str(parse_version(text)) == text

    @pytest.mark.parametrize(
        "text", ["", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.x", "-1.0.0", "01.0.0", "1.0.0 ", "١.0.0"]
    )
    def test_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(VersionError):
            parse_version(text)


class TestChange:
    @pytest.mark.parametrize(
        "previous",
        [
            {**SIGNATURE, "outputs": {"score": "FP64"}},
            {**SIGNATURE, "inputs": {}},
            {**SIGNATURE, "outputs": {"score": "FP32", "more": "FP32"}},
        ],
    )
    def test_other_inputs_or_outputs_are_major(self, previous: dict) -> None:
        assert classify(SIGNATURE, previous, GATES, {"recall": {"low": 0.1, "high": 0.2}})[0] is Change.MAJOR

    def test_a_major_change_names_what_differs(self) -> None:
        previous = {"inputs": SIGNATURE["inputs"], "outputs": {"score": "FP64", "old": "INT32"}}
        _, why = classify(SIGNATURE, previous, GATES, {})
        assert why == "clients must change: outputs: score FP64 -> FP32, old is gone"

    @pytest.mark.parametrize(
        ("meant", "meaning", "change"),
        [
            ({"score": "cosine"}, {"score": "probability"}, Change.MAJOR),
            ({"score": "cosine"}, {"score": "cosine"}, Change.MINOR),
            ({}, {"score": "explained for the first time"}, Change.MINOR),
            (None, {"score": "of a version before meanings were kept"}, Change.MINOR),
            ({"score": "no longer explained"}, {}, Change.MINOR),
        ],
    )
    def test_an_output_that_says_something_else_is_major(self, meant: dict, meaning: dict, change: Change) -> None:
        better = {"recall": {"low": 0.1, "high": 0.2}}
        found, why = classify(SIGNATURE, SIGNATURE, GATES, better, meaning=meaning, meant=meant)
        assert found is change
        assert ("was 'cosine', is 'probability'" in why) == (change is Change.MAJOR)

    @pytest.mark.parametrize(
        "against", [{"recall": {"low": 0.001, "high": 0.2}}, {"latency": {"low": -9.0, "high": -1.0}}]
    )
    def test_surely_better_on_a_gated_metric_is_minor(self, against: dict) -> None:
        assert classify(SIGNATURE, SIGNATURE, GATES, against)[0] is Change.MINOR

    @pytest.mark.parametrize(
        "against",
        [
            {},
            {"recall": {"low": -0.01, "high": 0.2}},
            {"latency": {"low": 1.0, "high": 9.0}},
            {"other": {"low": 0.5, "high": 0.9}},
        ],
    )
    def test_anything_else_is_a_refresh(self, against: dict) -> None:
        assert classify(SIGNATURE, SIGNATURE, GATES, against)[0] is Change.PATCH
        assert classify(SIGNATURE, None, GATES, {})[0] is Change.PATCH
