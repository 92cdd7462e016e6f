"""Known cases in a file: read whole or not at all, and added one by one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.errors import DataError
from include.evaluation.cases import MAX_BYTES, Case, add_case, check_cases, parse_cases, pin_cases, read_cases
from include.store.objects import ObjectStore
from tests.fakes.tiny_family import TinyRuntime


def case(identity: str = "late", **changes: Any) -> dict[str, Any]:
    usual = {"inputs": {"question": "is it due"}, "truth": {"answer": "IS IT DUE"}, "metric": "hit_at_10"}
    limit = {} if "at_most" in changes else {"at_least": 1.0}
    return {"id": identity, **usual, **limit, **changes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cases.jsonl"


def test_what_is_added_is_read_back(path: Path) -> None:
    first, second = Case(**case("a", why="cited the repealed rule: § 3, \u2028 “old”")), Case(**case("b", at_most=0.5))
    add_case(path, first)
    add_case(path, second)
    assert read_cases(path) == [first, second]
    assert read_cases(path.with_name("none.jsonl")) == []


def test_two_who_add_at_once_lose_nothing(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: add_case(path, Case(**case(f"c{n}"))), range(24)))
    assert {found.id for found in read_cases(path)} == {f"c{n}" for n in range(24)}
    assert [found.name for found in path.parent.iterdir()] == ["cases.jsonl"]


def test_an_id_that_is_taken_and_a_broken_file_are_left_as_they_are(path: Path) -> None:
    add_case(path, Case(**case("a")))
    with pytest.raises(DataError, match="a case 'a' already"):
        add_case(path, Case(**case("a")))
    path.write_text(path.read_text() + "{half")
    before = path.read_bytes()
    with pytest.raises(DataError, match="not JSON") as caught:
        add_case(path, Case(**case("b")))
    assert caught.value.where.endswith(":2") and path.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "no case"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
        (json.dumps(case(at_least=None)).encode(), "either `at_least` or `at_most`"),
        (json.dumps(case(at_most=0.5, at_least=0.1)).encode(), "either `at_least` or `at_most`"),
        (json.dumps(case(at_least=float("nan"))).encode(), "no number of JSON"),
        (json.dumps(case()).replace("1.0", "1e999").encode(), "finite"),
        (json.dumps(case("../etc")).encode(), "id"),
        (json.dumps(case(inputs={})).encode(), "inputs"),
        (json.dumps(case(mood=1)).encode(), "mood"),
    ],
)
def test_a_line_that_is_no_case_is_told_with_its_number(line: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        parse_cases(json.dumps(case("fine")).encode() + b"\n\n" + line, "cases.jsonl")
    assert caught.value.where == "cases.jsonl:3" and len(str(caught.value)) < 1500


def test_a_file_without_measure_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 10)
    with pytest.raises(DataError, match="more than"):
        read_cases(path)
    with pytest.raises(DataError, match="stands on line 1"):
        parse_cases((json.dumps(case()) + "\n").encode() * 2, "x")


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        parse_cases(data, "x")
    except DataError as error:
        assert error.where.startswith("x")


def test_pinned_by_content_and_nothing_where_there_is_none(path: Path, store: ObjectStore) -> None:
    assert pin_cases(store, "tiny", path) is None
    add_case(path, Case(**case("a")))
    first = pin_cases(store, "tiny", path)
    assert first == pin_cases(store, "tiny", path)
    add_case(path, Case(**case("b")))
    assert pin_cases(store, "tiny", path) != first


class TestChecking:
    def check(self, skill: float = 1.0, **changes: Any) -> dict[str, Any]:
        return check_cases(TinyRuntime({"skill": skill}), [Case(**case(**changes))])

    def test_right_and_wrong(self) -> None:
        assert self.check() == {"n": 1, "failed": []}
        assert self.check(skill=0.0)["failed"][0]["found"] == "hit_at_10 is 0"
        assert self.check(at_most=0.5)["failed"][0]["asks"] == "hit_at_10 <= 0.5"

    def test_a_refused_request_is_wrong(self) -> None:
        assert self.check(inputs={"quest": "?"})["failed"][0]["found"].startswith("refused: unknown input")

    def test_a_case_that_does_not_fit_the_family_is_told(self) -> None:
        with pytest.raises(DataError, match="asks for 'taste'"):
            self.check(metric="taste")
        with pytest.raises(DataError, match="truth does not fit"):
            self.check(truth={"reply": "x"})
