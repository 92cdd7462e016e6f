"""The decisions of the data part: which split, which version, what is the same content."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.data.splits import describe_split, split_column, split_of, split_point
from include.data.versioning import Change, Level, Shape, known_domains, next_version
from include.release.versioning import parse_version
from include.spec.splits import SplitSpec

SPLIT = SplitSpec(table="t", by="k", train=0.7, validation=0.1, test=0.2, seed=3)
VALUES = [f"q-{number:06d}" for number in range(20_000)]


class TestSplits:
    def test_shares_are_those_of_the_spec(self) -> None:
        counts = Counter(split_column(SPLIT, VALUES))
        for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            assert counts[name] / len(VALUES) == pytest.approx(share, abs=0.015)

    def test_an_example_stays_where_it_is_when_data_grows(self) -> None:
        assert split_column(SPLIT, VALUES)[:100] == split_column(SPLIT, VALUES[:100])

    def test_the_seed_deals_anew(self) -> None:
        other = SPLIT.model_copy(update={"seed": 4})
        assert split_column(SPLIT, VALUES[:500]) != split_column(other, VALUES[:500])
        assert describe_split(SPLIT) != describe_split(other)

    def test_known_values_do_not_move_between_releases(self) -> None:
        assert split_point(3, "q-000001") == 0.34747753945251036
        assert split_of(SPLIT, "q-000001") == "train"

    @given(st.text(), st.integers())
    def test_every_value_has_a_point(self, value: str, seed: int) -> None:
        assert 0.0 <= split_point(seed, value.encode("utf-8", "replace").decode()) < 1.0

    def test_everything_may_be_training(self) -> None:
        whole = SplitSpec(table="t", by="k", train=1, validation=0, test=0)
        assert set(split_column(whole, VALUES)) == {"train"}


def shape(rows: int = 100, source: str = "s", column: str = "a: string", split: str = "by k") -> Shape:
    return Shape(source, {"t": (column,), "u": ("x: string",)}, {"t": rows, "u": 50}, split)


class TestVersions:
    def test_the_first(self) -> None:
        assert next_version(None, None, shape()).version == "1.0.0"

    @pytest.mark.parametrize(
        ("after", "version", "level", "word"),
        [
            (shape(111), "2.4.0", Level.MINOR, "t grew by 11.0% to 111 rows"),
            (shape(110), "2.3.8", Level.PATCH, "t grew by 10.0% to 110 rows"),
            (shape(80), "2.4.0", Level.MINOR, "t shrank by 20.0%"),
            (shape(100), "2.3.8", Level.PATCH, "corrected"),
            (shape(500, source="other"), "3.0.0", Level.MAJOR, "'other'"),
            (shape(column="a: int64"), "3.0.0", Level.MAJOR, "added t.a: int64; removed t.a: string"),
            (shape(split="by m"), "3.0.0", Level.MAJOR, "by m"),
        ],
    )
    def test_the_next(self, after: Shape, version: str, level: Level, word: str) -> None:
        change = next_version("2.3.7", shape(), after)
        assert (change.version, change.level) == (version, level)
        assert word in change.reason

    def test_a_table_that_was_empty_grows(self) -> None:
        before = Shape("s", {"t": ()}, {"t": 0}, "")
        assert next_version("1.0.0", before, Shape("s", {"t": ()}, {"t": 3}, "")).level is Level.MINOR

    def test_a_new_table_is_another_schema(self) -> None:
        before = Shape("s", {"t": ("a: string",)}, {"t": 100}, "by k")
        assert next_version("1.0.0", before, shape()).level is Level.MAJOR

    @given(st.integers(0, 500), st.integers(0, 500))
    def test_versions_only_go_up(self, old: int, new: int) -> None:
        change: Change = next_version("4.5.6", shape(old), shape(new))
        assert parse_version(change.version) > (4, 5, 6)


def domain_shape(*domains: str, rows: int = 100) -> Shape:
    return Shape("s", {"t": ("a: string",)}, {"t": rows}, "by k", {"region": frozenset(domains)})


class TestDomains:
    def test_a_new_domain_is_a_major_version_and_is_named(self) -> None:
        change = next_version("1.4.2", domain_shape("north"), domain_shape("north", "south", "west"))
        assert (change.version, change.reason) == ("2.0.0", "new in region: south, west")

    def test_many_new_domains_are_not_all_listed(self) -> None:
        change = next_version("1.0.0", domain_shape(), domain_shape(*(f"d{number}" for number in range(8))))
        assert change.reason == "new in region: d0, d1, d2, d3, d4 and 3 more"

    def test_a_domain_that_went_away_is_no_new_one(self) -> None:
        change = next_version("1.0.0", domain_shape("north", "south"), domain_shape("north", rows=104))
        assert change.level is Level.PATCH

    def test_a_slice_that_was_not_looked_at_before_says_nothing(self) -> None:
        assert next_version("1.0.0", shape(), domain_shape("north")).reason.startswith("the schema changed")
        before = Shape("s", {"t": ("a: string",)}, {"t": 100}, "by k")
        assert next_version("1.0.0", before, domain_shape("north", rows=101)).level is Level.PATCH

    def test_a_stray_row_is_no_domain_and_one_in_a_hundred_is(self) -> None:
        counts = {"region": {"north": 991, "typo": 9}}
        assert known_domains(counts) == {"region": {"north"}}
        assert known_domains({"region": {"north": 990, "south": 10}}) == {"region": {"north", "south"}}

    def test_a_domain_is_new_only_once(self) -> None:
        first = known_domains({"region": {"north": 980, "south": 20}})
        thin = known_domains({"region": {"north": 1980, "south": 15}}, first)
        again = known_domains({"region": {"north": 1980, "south": 40}}, thin)
        assert first == thin == again

    def test_without_rows_there_is_no_domain(self) -> None:
        assert known_domains({"region": {}}) == {"region": frozenset()}
