"""Every kind of split: its shares, its folds, what moves when data grows, and that nothing leaks."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import StratifiedShuffleSplit, TimeSeriesSplit

from include.data.division import Division, divide
from include.data.leakage import LeakageError
from include.data.splits import describe_own_split, describe_split, marks_in_order, marks_of, split_column
from include.errors import DataError, UserError
from include.spec.splits import SplitKind, SplitSpec

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def spec(kind: str = "hold_out", by: str = "id", **changes: Any) -> SplitSpec:
    shares = {"test": 0.2, "folds": 5} if kind == "k_fold" else SHARES
    return SplitSpec.model_validate({"kind": kind, "table": "t", "by": by, **shares, **changes})


def table(ids: list[str] | None = None, n: int = 400, **columns: Any) -> pa.Table:
    ids = ids or [f"r-{number:05d}" for number in range(n)]
    made = {"id": ids, "delivery": ["d1"] * len(ids), "delivered_on": [date(2026, 1, 1)] * len(ids)}
    return pa.table({**made, **columns})


def by_id(split: SplitSpec, rows: pa.Table) -> dict[str, str]:
    return dict(zip(rows.column("id").to_pylist(), divide(split, rows, "id").marks, strict=True))


def shares(division: Division) -> dict[str, float]:
    return {mark: count / len(division.marks) for mark, count in Counter(division.marks).items()}


class TestSpec:
    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"train": 0.7}, "must be 1"),
            ({"kind": "k_fold", "folds": 3, "validation": 0.1, "train": 0.7}, "neither of the others"),
            ({"kind": "k_fold", "test": 0.1, "train": 0, "validation": 0}, "two or more"),
            ({"folds": 4}, "has no folds"),
            ({"fold": 0}, "has no folds"),
            ({"kind": "time_series", "folds": 2, "fold": 2}, "no fold 2"),
            ({"kind": "stratified"}, "needs `stratify`"),
            ({"kind": "group", "stratify": "x"}, "goes with stratified"),
            ({"gap": 1}, "goes with time_series"),
            ({"kind": "time_series", "folds": 2, "train": 0.8, "validation": 0, "test": 0.2}, "must not be 0"),
            ({"kind": "time_series", "leakage": {"near_duplicates": "together"}}, "order of time"),
            ({"leakage": {"threshold": 0.3}}, "greater than or equal to 0.5"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, values: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            SplitSpec.model_validate({"table": "t", "by": "id", **SHARES, **values})

    def test_words_differ_where_the_division_does(self) -> None:
        kinds = [
            spec(), spec(seed=1), spec(by="other"), spec("k_fold"), spec("k_fold", folds=4),
            spec("k_fold", stratify="x"), spec("stratified", stratify="x"), spec("stratified", stratify="y"),
            spec("group"), spec("time_series"),
            spec("time_series", gap=2), spec("time_series", folds=3), spec(leakage={"text": ["q"]}),
            spec(leakage={"text": ["q"], "threshold": 0.7}), spec(leakage={"text": ["q", "a"]}),
        ]  # fmt: skip
        assert len({describe_split(kind) for kind in kinds}) == len(kinds)

    def test_words_of_hold_out_do_not_change_between_releases(self) -> None:
        assert describe_split(spec()) == "0.6/0.2/0.2 by id, seed 0"

    def test_what_does_not_divide_is_not_in_the_words(self) -> None:
        same = [spec("k_fold"), spec("k_fold", fold=3), spec("k_fold", leakage={"groups": ["g"]})]
        same.append(spec("k_fold", leakage={"text": ["q"], "near_duplicates": "refuse"}))
        assert len({describe_split(kind) for kind in same}) == 1


class TestReading:
    @given(st.integers(2, 9), st.data())
    def test_the_sides_of_a_fold_are_disjoint_and_complete(self, folds: int, data: st.DataObject) -> None:
        fold = data.draw(st.integers(0, folds - 1))
        sides = [marks_of(SplitKind.K_FOLD, folds, fold, name) for name in ("train", "validation", "test")]
        assert frozenset.union(*sides) == frozenset(marks_in_order(SplitKind.K_FOLD, folds))
        assert sum(len(side) for side in sides) == folds + 1

    def test_a_window_is_judged_by_what_lies_before_it_and_its_gap(self) -> None:
        kind, folds = SplitKind.TIME_SERIES, 3
        assert marks_of(kind, folds, 0, "train") == {"period_0"}
        assert marks_of(kind, folds, 1, "train") == {"period_0", "period_0_gap", "period_1"}
        assert marks_of(kind, folds, 1, "validation") == {"period_2", "period_2_gap"}
        assert marks_of(kind, folds, 2, "validation") == {"period_3"}  # its end is the gap before the test rows
        assert marks_of(kind, folds, 2, "period_1") == {"period_1"}

    def test_an_unknown_split_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            marks_of(SplitKind.HOLD_OUT, 1, 0, "tset")


class TestKFold:
    def test_folds_have_like_shares_and_do_not_move(self) -> None:
        rows = table(n=6_000)
        found = divide(spec("k_fold"), rows, "id")
        for mark in marks_in_order(SplitKind.K_FOLD, 5):
            assert shares(found)[mark] == pytest.approx(0.2 if mark == "test" else 0.16, abs=0.02)
        assert not any(found.moved)
        assert found.marks[:50] == divide(spec("k_fold"), rows.slice(0, 50), "id").marks

    def test_stratified_folds_have_equal_shares_of_every_label(self) -> None:
        labels = ["rare" if number % 20 == 0 else "common" for number in range(2_000)]
        found = divide(spec("k_fold", stratify="label"), table(n=2_000, label=labels), "id")
        counts = Counter(zip(found.marks, labels, strict=True))
        for fold in range(5):
            assert counts[(f"fold_{fold}", "rare")] == pytest.approx(16, abs=1)
            assert counts[(f"fold_{fold}", "common")] == pytest.approx(304, abs=1)


class TestStratified:
    LABELS = [["a", "b", "b", "c", "c", "c", "c", "c", "c", "c"][n % 10] for n in range(1_000)]

    def test_shares_are_as_exact_as_those_of_scikit_learn(self) -> None:
        marks = np.array(divide(spec("stratified", stratify="label"), table(n=1_000, label=self.LABELS), "id").marks)
        labels = np.array(self.LABELS)
        _, test = next(StratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(labels, labels))
        for label in "abc":
            share = (labels[marks == "test"] == label).mean()
            assert share == pytest.approx((labels == label).mean(), abs=0.005)
            assert share == pytest.approx((labels[test] == label).mean(), abs=0.005)

    def test_few_rows_move_when_data_grows_where_scikit_learn_deals_half_anew(self) -> None:
        labels = [label for _ in range(3) for label in self.LABELS]
        rows = table(n=3_000, label=labels)
        before, after = (by_id(spec("stratified", stratify="label"), rows.slice(0, n)) for n in (2_700, 3_000))
        assert sum(before[key] != after[key] for key in before) / len(before) < 0.02

        def peer(n: int) -> set[int]:
            return set(next(StratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(labels[:n], labels[:n]))[1])

        assert len(peer(2_700) & peer(3_000)) / len(peer(2_700)) < 0.6

    def test_a_label_of_one_row_goes_somewhere(self) -> None:
        rows = table(n=101, label=["only", *("x" * 100)])
        assert len(divide(spec("stratified", stratify="label"), rows, "id").marks) == 101

    def test_the_order_of_rows_does_not_matter(self) -> None:
        rows = table(n=200, label=self.LABELS[:200])
        shuffled = rows.take(random.Random(3).sample(range(200), 200))
        split = spec("stratified", stratify="label")
        assert by_id(split, rows) == by_id(split, shuffled)


class TestGroups:
    def test_groups_are_whole_and_shares_are_held(self) -> None:
        groups = [f"g{number % 37}" for number in range(1_000)]
        found = divide(spec("group", by="g", leakage={"groups": ["g"]}), table(n=1_000, g=groups), "id")
        sides = {(group, mark) for group, mark in zip(groups, found.marks, strict=True)}
        assert len(sides) == 37
        for mark, share in SHARES.items():
            assert shares(found)[mark] == pytest.approx(share, abs=0.03)

    def test_too_few_groups_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"would have no row: there are too few values of 'g'"):
            divide(spec("group", by="g"), table(n=10, g=["a", "b"] * 5), "id")

    def test_a_group_on_two_sides_is_refused_and_named(self) -> None:
        groups = [f"g{number % 3}" for number in range(300)]
        with pytest.raises(LeakageError, match=r"3 of 3 values of 'g' are on two sides.*g0 \(test, train") as caught:
            divide(spec(leakage={"groups": ["g"]}), table(n=300, g=groups), "id")
        assert caught.value.fields["groups"]["g1"] == ["test", "train", "validation"]
        assert "kind: group" in caught.value.hint

    def test_two_sides_are_enough_to_be_refused_and_rows_without_a_group_are_not(self) -> None:
        split = spec(train=0.5, validation=0, test=0.5, leakage={"groups": ["g"]})
        with pytest.raises(LeakageError, match=r"1 of 1 values of 'g' are on two sides.*a \(test, train\)"):
            divide(split, table(n=40, g=["a"] * 20 + [None] * 20), "id")
        divide(split, table(n=40, g=pa.nulls(40, pa.string())), "id")


class TestTimeSeries:
    DAYS = [date(2026, 1, 1) + timedelta(days=number) for number in range(100)]

    def divide(self, split: SplitSpec, times: list[Any], kind: Any = None) -> Division:
        return divide(split, table(n=len(times), at=pa.array(times, kind)), "id")

    def test_folds_are_those_of_scikit_learn(self) -> None:
        split = spec("time_series", by="at", folds=4, gap=2)
        marks = np.array(self.divide(split, self.DAYS).marks)
        peer = list(TimeSeriesSplit(n_splits=4, test_size=5, gap=2).split(np.arange(80)))
        for fold, (train, validation) in enumerate(peer):
            own = [np.isin(marks, list(marks_of(split.kind, 4, fold, name))) for name in ("train", "validation")]
            assert np.flatnonzero(own[0]).tolist() == train.tolist()
            gap = 2 if fold == 3 else 0  # and the rows before the test rows, which the peer knows nothing of
            assert np.flatnonzero(own[1]).tolist() == validation.tolist()[: 5 - gap]
        assert np.flatnonzero(marks == "test").tolist() == list(range(80, 100))

    def test_cuts_are_told(self) -> None:
        assert self.divide(spec("time_series", by="at"), self.DAYS).cuts == ["2026-03-02", "2026-03-22"]

    @pytest.mark.parametrize("kind", ["date", "timestamp", "zoned", "text", "int", "float"])
    def test_any_kind_of_time(self, kind: str) -> None:
        moments = [datetime(2026, 1, 1) + timedelta(days=number) for number in range(100)]
        columns = {
            "date": pa.array(self.DAYS), "timestamp": pa.array(moments, pa.timestamp("ns")),
            "zoned": pa.array(moments, pa.timestamp("ms", "UTC")), "text": pa.array([str(day) for day in self.DAYS]),
            "int": pa.array(range(100)), "float": pa.array([float(n) for n in range(100)]),
        }  # fmt: skip
        rows = table(n=100, at=columns[kind])
        counts = Counter(divide(spec("time_series", by="at", gap=3), rows, "id").marks)
        assert counts == {"period_0": 57, "period_0_gap": 3, "period_1": 17, "period_1_gap": 3, "test": 20}

    def test_rows_of_one_time_stay_together(self) -> None:
        times = [date(2026, 1, 1) + timedelta(days=number // 7) for number in range(200)]
        marks = self.divide(spec("time_series", by="at"), times).marks
        assert len({(time, mark) for time, mark in zip(times, marks, strict=True)}) == len(set(times))

    def test_a_row_only_moves_towards_training_when_data_grows(self) -> None:
        split = spec("time_series", by="at", folds=2)
        order = {mark: place for place, mark in enumerate(marks_in_order(split.kind, 2))}
        before, after = (self.divide(split, self.DAYS[:n]).marks for n in (80, 100))
        assert before != after[:80]
        assert all(order[new] <= order[old] for old, new in zip(before, after[:80], strict=True))

    @pytest.mark.parametrize(
        ("times", "words"),
        [
            ([date(2026, 1, 1)] * 50, "too few different times"),
            ([None, *DAYS[1:]], "1 rows have no time"),
            (["monday"] * 50, "not a time"),
        ],
    )
    def test_what_cannot_be_cut_is_refused(self, times: list[Any], words: str) -> None:
        with pytest.raises(DataError, match=words):
            self.divide(spec("time_series", by="at"), times)

    def test_a_gap_longer_than_a_period_is_refused(self) -> None:
        with pytest.raises(DataError, match="longer than the period"):
            self.divide(spec("time_series", by="at", folds=4, gap=6), self.DAYS)

    def test_the_same_question_before_and_after_a_cut_is_refused(self) -> None:
        texts = [f"{random.Random(n).random()}" for n in range(99)]
        rows = table(n=100, at=self.DAYS, q=[*texts, texts[0]])
        with pytest.raises(LeakageError, match=r"r-00000 \(period_0\) and r-00099 \(test\), the same text"):
            divide(spec("time_series", by="at", leakage={"text": ["q"]}), rows, "id")


def questions(n: int = 300) -> list[str]:
    words = [f"w{number:04d}" for number in range(800)]
    return [" ".join(random.Random(number).choices(words, k=12)) for number in range(n)]


class TestNearDuplicates:
    def twins(self) -> tuple[pa.Table, list[str]]:
        """300 questions of which ten are reworded once, with later keys."""
        texts = questions()
        reworded = [text.replace(text.split()[3], "other") for text in texts[:10]]
        ids = [f"r-{number:05d}" for number in range(310)]
        days = [date(2026, 1, 1)] * 300 + [date(2026, 1, 8)] * 10
        rows = pa.table(
            {"id": ids, "q": texts + reworded, "delivery": [str(day) for day in days], "delivered_on": days}
        )
        return rows, ids

    def test_they_go_to_the_side_of_the_first(self) -> None:
        rows, ids = self.twins()
        split = spec(leakage={"text": ["q"]})
        found = divide(split, rows, "id")
        own = split_column(split, ids)
        assert found.marks[:300] == own[:300]
        assert found.marks[300:] == own[:10]
        assert found.moved == [a != b for a, b in zip(found.marks, own, strict=True)]
        assert found.report is not None
        assert (found.report.near, found.report.clusters, found.report.largest) == (10, 10, 2)
        assert found.report.apart == sum(found.moved) > 0
        assert found.report.crossing == 0

    def test_or_are_refused_and_named(self) -> None:
        rows, _ = self.twins()
        with pytest.raises(LeakageError, match="nearly the same q are on two sides") as caught:
            divide(spec(leakage={"text": ["q"], "near_duplicates": "refuse"}), rows, "id")
        pairs = caught.value.fields["pairs"]
        assert len(pairs) == len({tuple(pair["keys"]) for pair in pairs}) > 0
        assert all(pair["sides"][0] != pair["sides"][1] and pair["similarity"] > 0.55 for pair in pairs)
        assert "w0" not in str(caught.value), "texts may hold what must not reach a log"

    def test_or_are_counted(self) -> None:
        rows, ids = self.twins()
        split = spec(leakage={"text": ["q"], "near_duplicates": "allow"})
        found = divide(split, rows, "id")
        assert found.marks == split_column(split, ids)
        assert found.report is not None
        assert found.report.crossing == found.report.apart > 0

    def test_what_joins_two_sides_goes_to_training(self) -> None:
        base = questions(60)
        split = spec(leakage={"text": ["q"]})
        own = split_column(split, [f"r-{number:05d}" for number in range(60)])
        trained, tested = own.index("train"), own.index("test")
        words_a, words_b = base[trained].split(), base[tested].split()
        bridge_a, bridge_b = " ".join(words_a[:12] + words_b[:4]), " ".join(words_b[:12] + words_a[:4])
        middle = " ".join(words_a[:12] + words_b[:12])
        rows = table([f"r-{n:05d}" for n in range(63)], q=[*base, bridge_a, bridge_b, middle])
        before, after = by_id(split, rows.slice(0, 60)), by_id(split, rows)
        assert {after[key] for key in ("r-00060", "r-00061", "r-00062", f"r-{tested:05d}")} == {"train"}
        moved = [key for key in before if before[key] != after[key]]
        assert moved == [f"r-{tested:05d}"]

    @settings(max_examples=25, deadline=None)
    @given(st.randoms(use_true_random=False), st.sampled_from(["hold_out", "k_fold", "stratified", "group"]))
    def test_no_pair_is_on_two_sides_whatever_the_kind(self, random_: random.Random, kind: str) -> None:
        base = questions(40)
        texts = base + [base[random_.randrange(40)].replace("w0", "v", random_.randrange(3)) for _ in range(30)]
        rows = table([f"r-{number:05d}" for number in range(70)], q=texts, label=["a", "b"] * 35)
        changes: dict[str, Any] = {"leakage": {"text": ["q"]}} | ({"stratify": "label"} if kind == "stratified" else {})
        shuffled = rows.take(random_.sample(range(70), 70))
        found = divide(spec(kind, **changes), shuffled, "id")
        assert found.report is not None
        assert found.report.crossing == 0
        assert found.report.near > 0

    def test_rows_that_share_the_value_stay_together_with_the_near_duplicates_of_any(self) -> None:
        base = questions(40)
        asked_by = [f"p{number // 2}" for number in range(40)]
        rows = table([f"r-{n:05d}" for n in range(41)], q=[*base, base[7]], person=[*asked_by, "p30"])
        found = divide(spec(by="person", leakage={"text": ["q"], "groups": ["person"]}), rows, "id")
        assert found.marks[40] == found.marks[7] == found.marks[6]

    def test_several_columns_count_together(self) -> None:
        texts = questions(2)
        rows = table(["a", "b"], q=[texts[0]] * 2, passage=[texts[1], None])
        report = divide(spec(leakage={"text": ["q", "passage"], "threshold": 0.8}), rows, "id").report
        assert report is not None
        assert report.near == 0

    def test_an_unknown_column_is_named(self) -> None:
        with pytest.raises(UserError, match="no column 'wording'"):
            divide(spec(leakage={"text": ["wording"]}), table(n=3), "id")


def test_stored_marks_do_not_depend_on_texts() -> None:
    assert describe_own_split(spec(leakage={"text": ["q"]})) == describe_own_split(spec())
