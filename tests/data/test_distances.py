"""How far two samples of a column are apart: nothing for the same, much for much, and never an error."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.data.distances import (
    ColumnDistance,
    ColumnKind,
    category_psi,
    compare_columns,
    jensen_shannon,
    number_psi,
)


def compare(before: list[Any], after: list[Any], kind: Any = None) -> ColumnDistance:
    return compare_columns(pa.chunked_array([pa.array(before, kind)]), pa.chunked_array([pa.array(after, kind)]))


class TestMeasures:
    def test_jensen_shannon_by_hand(self) -> None:
        assert jensen_shannon({"a": 1}, {"a": 7}) == 0.0
        assert jensen_shannon({"a": 1}, {"b": 1}) == pytest.approx(1.0)
        # m = (3/4, 1/4): H(m) - (H(p) + H(q)) / 2 = 0.811278 - 0.5; the distance is its root
        assert jensen_shannon({"a": 1, "b": 1}, {"a": 5}) == pytest.approx(np.sqrt(0.8112781 - 0.5), abs=1e-6)

    def test_stability_index_by_hand(self) -> None:
        assert category_psi({"a": 50, "b": 50}, {"a": 500, "b": 500}) == 0.0
        expected = 0.2 * np.log(0.7 / 0.5) + (-0.2) * np.log(0.3 / 0.5)
        assert category_psi({"a": 5, "b": 5}, {"a": 7, "b": 3}) == pytest.approx(expected)

    def test_stability_index_of_numbers(self) -> None:
        rng = np.random.default_rng(0)
        before = rng.normal(size=20_000)
        assert number_psi(before, rng.normal(size=20_000)) < 0.01
        assert 0.02 < number_psi(before, rng.normal(0.2, size=20_000)) < 0.1
        assert number_psi(before, rng.normal(2, size=20_000)) > 0.25
        assert number_psi(np.ones(10), np.ones(5)) == 0.0


class TestColumns:
    def test_numbers(self) -> None:
        same = compare([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0])
        assert (same.kind, same.distance, same.psi) == (ColumnKind.NUMBER, 0.0, 0.0)
        moved = compare([0.0, 1.0, 2.0], [10.0, 11.0, 12.0])
        assert moved.distance == pytest.approx(10 / np.std([0, 1, 2]))
        assert moved.after == "11 [10.1, 11.9]"

    def test_dates_are_numbers(self) -> None:
        moved = compare([date(2026, 1, 1), date(2026, 1, 3)], [date(2026, 1, 2), date(2026, 1, 4)])
        assert (moved.kind, moved.distance) == (ColumnKind.NUMBER, 1.0)
        assert compare([datetime(2026, 1, 1)], [datetime(2026, 1, 1)]).distance == 0.0

    def test_categories(self) -> None:
        moved = compare(["a"] * 9 + ["b"], ["b"] * 10)
        assert moved.kind is ColumnKind.CATEGORY and moved.distance is not None and moved.distance > 0.7
        assert moved.psi is not None and moved.psi > 0.25
        assert moved.before == "a 9, b 1"
        assert compare([True, False], [True, True]).kind is ColumnKind.CATEGORY

    def test_texts_are_compared_by_words_and_by_length(self) -> None:
        texts = [f"what of case {number}" for number in range(100)]
        same = compare(texts, list(reversed(texts)))
        assert (same.kind, same.distance, same.size_distance) == (ColumnKind.TEXT, 0.0, 0.0)
        other = compare(texts, [f"{text} and of the one after it" for text in texts])
        assert other.distance is not None and other.distance > 0.3
        assert other.size_distance is not None and other.size_distance > 1

    def test_lists(self) -> None:
        moved = compare([["a"], ["a", "b"]], [["c"], ["c"]])
        assert moved.kind is ColumnKind.LIST and moved.distance == pytest.approx(1.0)

    def test_missing_values_are_told_apart(self) -> None:
        moved = compare([1, None], [1, 1])
        assert (moved.empty, moved.distance) == ((0.5, 0.0), 0.0)
        gone = compare([1, 2], [None, None], pa.int64())
        assert (gone.distance, gone.measure, gone.empty[1]) == (None, "none", 1.0)
        assert compare([], [], pa.string()).kind is ColumnKind.EMPTY

    def test_two_types_are_compared_as_they_read(self) -> None:
        found = compare_columns(pa.chunked_array([pa.array([1, 2])]), pa.chunked_array([pa.array(["1", "2"])]))
        assert (found.kind, found.distance) == (ColumnKind.CATEGORY, 0.0)

    @settings(deadline=None)
    @given(st.lists(st.floats() | st.none(), max_size=20), st.lists(st.floats() | st.none(), max_size=20))
    def test_any_numbers(self, before: list[float | None], after: list[float | None]) -> None:
        found = compare(before, after, pa.float64())
        assert found.distance is None or found.distance >= 0

    @settings(deadline=None)
    @given(st.lists(st.text(), max_size=20), st.lists(st.text(), max_size=20))
    def test_any_texts(self, before: list[str], after: list[str]) -> None:
        clean = [[text.encode("utf-8", "replace").decode() for text in side] for side in (before, after)]
        found = compare(*clean, pa.string())
        assert found.distance is None or 0 <= found.distance <= 1
