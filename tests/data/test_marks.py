"""Sets and sorted collections of marks, in memory and on disk."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.data import marks
from include.data.marks import MarkSet, marks_of


class TestMarkSet:
    @hypothesis_settings(deadline=None)
    @given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=25))
    def test_it_is_a_set(self, batches: list[list[int]]) -> None:
        held, merged = marks.HELD, marks.MERGED
        marks.HELD, marks.MERGED = 8, 30  # runs go to files, and are not merged for ever
        try:
            kept, expected = MarkSet(), set[int]()
            for batch_ in batches:
                asked = marks_of(str(number).encode() for number in range(60))
                assert kept.contains(asked).tolist() == [number in expected for number in range(60)]
                kept.add(marks_of(str(number).encode() for number in batch_))
                expected.update(batch_)
        finally:
            marks.HELD, marks.MERGED = held, merged

    def test_marks_that_begin_alike_are_told_apart(self) -> None:
        alike = np.frombuffer(b"".join(b"12345678" + bytes([n]) * 8 for n in range(6)), marks.MARKS)
        kept = MarkSet()
        kept.add(alike[[4, 1]])
        kept.add(alike[[2]])
        assert kept.contains(alike).tolist() == [False, True, True, False, True, False]
