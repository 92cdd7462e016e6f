"""Outcomes per example: stored, read back, and only compared with their like."""

from __future__ import annotations

import numpy as np
import pytest

from include.errors import DataError
from include.evaluation.examples import (
    Place,
    aligned,
    check_examples,
    load_answers,
    load_examples,
    numbers_of,
    save_answers,
    save_examples,
)
from include.evaluation.slices import check_slices, slice_report, worst_groups
from include.families.contract import Examples
from include.store.objects import ObjectStore
from tests.fakes.tiny_family import TinyDataset, TinyFamily, TinyRuntime

PLACE = Place("tiny", "d" * 64, "p" * 64, "test", "code")


def examples(ids: list[str], hits: list[float]) -> Examples:
    return Examples(ids, {"hit": np.array(hits)}, {"document": ["a"] * len(ids)})


def test_what_is_stored_comes_back(store: ObjectStore) -> None:
    assert load_examples(store, PLACE) is None
    save_examples(store, PLACE, examples(["q1", "q2"], [1.0, 0.25]))
    found = load_examples(store, PLACE)
    assert found is not None
    assert list(found.ids) == ["q1", "q2"]
    assert found.metrics["hit"].tolist() == [1.0, 0.25]
    assert list(found.slices["document"]) == ["a", "a"]


def test_other_code_or_data_is_another_place() -> None:
    keys = {
        Place(*parts).examples_key
        for parts in [
            ("tiny", "d" * 64, "p" * 64, "test", "code"),
            ("tiny", "e" * 64, "p" * 64, "test", "code"),
            ("tiny", "d" * 64, "q" * 64, "test", "code"),
            ("tiny", "d" * 64, "p" * 64, "validation", "code"),
            ("tiny", "d" * 64, "p" * 64, "test", "edoc"),
        ]
    }
    assert len(keys) == 5


def test_answers_keep_inputs_and_numbers(store: ObjectStore) -> None:
    dataset = TinyDataset(20)
    key = save_answers(store, PLACE, TinyFamily(), TinyRuntime({"skill": 0.5}), dataset)
    rows = load_answers(store, key)
    assert len(rows) == 20
    assert rows[0]["inputs"] == {"question": "what does rule number 0 of the test set say"}
    assert set(rows[0]["outputs"]) == {"score", "confidence"}


def test_only_finite_numbers_are_kept() -> None:
    record = {"score": np.float32(0.5), "rank": 3, "bad": float("nan"), "text": "7", "list": [1.0], "none": None}
    assert numbers_of(record) == {"score": 0.5, "rank": 3.0}


def test_the_same_examples_in_another_order_are_brought_into_order() -> None:
    found = aligned(examples(["q2", "q1"], [0.0, 1.0]), ["q1", "q2"])
    assert found["hit"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("ids", [["q1"], ["q1", "q3"], ["q1", "q2", "q3"]])
def test_other_examples_are_not_compared(ids: list[str]) -> None:
    with pytest.raises(DataError, match="same examples"):
        aligned(examples(["q1", "q2"], [1.0, 0.0]), ids)


@pytest.mark.parametrize(
    "broken",
    [
        examples([], []),
        examples(["q1", "q1"], [1.0, 0.0]),
        Examples(["q1"], {"hit": np.array([1.0, 0.0])}),
        Examples(["q1"], {"hit": np.array([1.0])}, {"document": []}),
        Examples(["q1"], {}),
    ],
)
def test_a_family_that_miscounts_is_told(broken: Examples) -> None:
    with pytest.raises(DataError):
        check_examples(broken, "candidate on test")


class TestSlices:
    settings = {"confidence": 0.95, "resamples": 200, "seed": 1, "bounds": {"hit": (0.0, 1.0)}}

    def test_the_document_on_which_a_model_fails_is_seen(self) -> None:
        labels = ["good"] * 90 + ["bad"] * 30
        hits = np.array([1.0] * 88 + [0.0] * 2 + [0.0] * 28 + [1.0] * 2)
        report = slice_report({"hit": hits}, labels, **self.settings)
        assert [name for name, _ in worst_groups(report, "hit")] == ["bad", "good"]
        assert report["groups"]["bad"]["metrics"]["hit"]["high"] < 0.3

    def test_groups_are_bounded_and_the_small_ones_marked(self) -> None:
        labels = [f"d{number}" for number in range(150)] + ["d0"] * 30
        report = slice_report({"hit": np.ones(180)}, labels, **self.settings)
        assert next(iter(report["groups"])) == "d0"
        assert len(report["groups"]) + report["left_out"] == 150
        assert report["groups"]["d0"]["few"] is False
        assert report["groups"]["d1"]["few"] is True

    def test_every_example_is_in_one_group(self) -> None:
        labels = [f"d{number % 7}" for number in range(50)]
        report = slice_report({"hit": np.ones(50)}, labels, **self.settings)
        assert sum(group["n"] for group in report["groups"].values()) == 50

    def test_an_unknown_slice_lists_the_known_ones(self) -> None:
        with pytest.raises(Exception, match="document"):
            check_slices(["region"], {"document": []})
