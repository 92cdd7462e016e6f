"""Changed requests: what the spec says, drawn from seed and example alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from include.errors import UserError
from include.evaluation.changes import changed
from include.spec.judging import EvaluationSpec
from include.spec.probing import Change, RobustnessSpec

KINDS = {"question": "BYTES", "year": "INT64"}
QUESTION = "What must the Licensee report within 10 business days, and to whom?"
REQUEST = {"question": QUESTION, "year": 2026}


def make(kind: str, **fields: Any) -> Any:
    return TypeAdapter(Change).validate_python({"name": "x", "change": kind, **fields})


ALL = [
    make("misspelling", rate=1.0),
    make("case", case="upper"),
    make("case", case="mixed"),
    make("rewording", phrases={"must": ["has to"]}, templates=["Tell me: {text}"]),
    make("truncation", keep=0.5),
    make("empty"),
    make("missing"),
    make("out_of_scope", requests=[{"question": "Who won?", "year": 1}]),
]


@pytest.mark.parametrize("change", ALL, ids=lambda change: change.change)
def test_every_change_changes_and_is_the_same_each_time(change: Any) -> None:
    found = changed(change, REQUEST, KINDS, "q-1")
    assert found != REQUEST
    assert found == changed(change, REQUEST, KINDS, "q-1")
    assert REQUEST["question"] == QUESTION, "the request itself stays as it is"


def test_another_example_or_seed_draws_another_change() -> None:
    texts = {changed(make("misspelling", rate=0.5), REQUEST, KINDS, f"q-{n}")["question"] for n in range(10)}
    assert len(texts) > 5
    seeds = {changed(make("misspelling", rate=0.5, seed=n), REQUEST, KINDS, "q")["question"] for n in range(10)}
    assert len(seeds) > 5


def test_numbers_survive_typing_errors_and_nothing_else_is_touched() -> None:
    found = changed(make("misspelling", rate=1.0), REQUEST, KINDS, "q")
    assert "10" in found["question"].split() and found["year"] == 2026


def test_rewording_replaces_whole_words_and_keeps_capitals() -> None:
    change = make("rewording", phrases={"must": ["has to"], "what must": ["which things must"]})
    found = changed(change, {"question": "What must a mustang do? It MUST run.", "year": 1}, KINDS, "q")
    assert found["question"] == "Which things must a mustang do? It Has to run."


def test_a_reworded_text_with_braces_and_backslashes_is_taken_as_it_is() -> None:
    change = make("rewording", phrases={"a+b": [r"\1 {text}"]}, templates=["Q: {text}"])
    assert changed(change, {"question": "is a+b c?", "year": 1}, KINDS, "q")["question"] == r"Q: is \1 {text} c?"


def test_missing_and_empty_hit_any_input() -> None:
    lost = {frozenset(REQUEST) - frozenset(changed(make("missing"), REQUEST, KINDS, str(n))) for n in range(30)}
    assert lost == {frozenset({"question"}), frozenset({"year"})}
    emptied = [changed(make("empty", fields=["year"]), REQUEST, KINDS, str(n))["year"] for n in range(5)]
    assert emptied == [None] * 5


def test_an_input_that_the_model_does_not_take_is_told() -> None:
    with pytest.raises(UserError, match="no input 'qestion'"):
        changed(make("case", fields=["qestion"]), REQUEST, KINDS, "q")


@settings(max_examples=40)
@given(st.text(), st.sampled_from(ALL[:5]))
def test_no_text_breaks_a_change(text: str, change: Any) -> None:
    assert isinstance(changed(change, {"question": text, "year": 1}, KINDS, "q")["question"], str)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("misspelling", {"rate": 0.0}),
        ("rewording", {}),
        ("rewording", {"templates": ["no place"]}),
        ("rewording", {"phrases": {"  ": ["x"]}}),
        ("truncation", {"keep": 1.0}),
        ("out_of_scope", {"requests": []}),
        ("typo", {}),
    ],
)
def test_a_change_that_changes_nothing_is_refused(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(kind, **fields)


def test_two_changes_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="repeated: x"):
        RobustnessSpec(changes=[make("case"), make("empty")])


@pytest.mark.parametrize(
    ("metric", "reference", "said"),
    [
        ("hit_under_typos", "clean", "no change 'typos'"),
        ("hit", "clean", "goes with a metric"),
        ("hit_under_x", None, ""),
    ],
)
def test_gates_on_changes_that_are_not_declared_are_refused_at_once(metric: str, reference: Any, said: str) -> None:
    gate = {"name": "g", "metric": metric, "operator": "gte"}
    gate |= {"reference": reference} if reference else {"threshold": 0.5}
    values = {"gates": [gate], "robustness": {"changes": [{"name": "x", "change": "case"}]}}
    if said:
        with pytest.raises(ValidationError, match=said):
            EvaluationSpec.model_validate(values)
    else:
        EvaluationSpec.model_validate(values)
