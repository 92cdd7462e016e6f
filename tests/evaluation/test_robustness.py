"""A model asked differently: quality in pairs, refusals, failures, questions out of scope, and what drives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from include.errors import DataError, UserError
from include.evaluation.asking import Example, Outcome, ask
from include.evaluation.drivers import importance, told_by_answers
from include.evaluation.robustness import Asked, Probed, ask_clean, probe
from include.spec.probing import Change

BOOTSTRAP = {"confidence": 0.95, "resamples": 200, "seed": 1}


class Echo:
    """Answers with the question's first word; sure of those that it knows; may be told to break."""

    inputs: Mapping[str, str] = {"question": "BYTES", "size": "FP32", "noise": "FP32"}
    outputs: Mapping[str, str] = {"word": "BYTES"}

    def __init__(self, *, minds_case: bool = True, breaks_on: str = "", refuses: str = "") -> None:
        self.minds_case, self.breaks_on, self.refuses = minds_case, breaks_on, refuses

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        for text in inputs["question"]:
            if self.breaks_on and self.breaks_on in text:
                raise ZeroDivisionError("bad day")
            if self.refuses and self.refuses in text:
                raise DataError("not this one")
        words = [(text.split() or [""])[0] for text in inputs["question"]]
        known = [word if self.minds_case else word.lower() for word in words]
        sure = [0.9 if word.startswith("word") else 0.2 for word in known]
        return {"word": known, "confidence": sure, "size": [2.0 * size for size in inputs["size"]]}

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        record = {name: values[index] for name, values in outputs.items()}
        return {**record, "why": {"parts": {"first": 0.75, "rest": 0.25}, "terms": {record["word"]: 0.5}}}

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        return {"hit": float(record["word"] == truth["word"]), "error": abs(record["size"] - truth["size"])}


EXAMPLES = [
    Example(
        f"e{n:02d}",
        {"question": f"word{n} and then some more", "size": float(n), "noise": float(n % 7)},
        {"word": f"word{n}", "size": 2.0 * n},
    )
    for n in range(40)
]


def asked(runtime: Echo | None = None) -> Asked:
    return ask_clean(runtime or Echo(), EXAMPLES, frozenset({"error"}), BOOTSTRAP)


def probed(change: dict[str, Any], runtime: Echo | None = None) -> Probed:
    return probe(asked(runtime), [TypeAdapter(Change).validate_python({"name": "x", **change})])


def test_a_model_that_minds_capitals_is_found_out_and_another_is_not() -> None:
    minds = probed({"change": "case", "case": "upper"})
    assert minds.summary["hit_under_x"].value == 0.0
    assert minds.against_clean["hit_under_x"].high < -0.8
    assert minds.changes["x"]["altered"] == 40
    robust = probed({"change": "case", "case": "upper"}, Echo(minds_case=False))
    assert robust.summary["hit_under_x"].value == 1.0
    assert robust.against_clean["hit_under_x"].value == 0.0
    assert robust.against_clean["hit_under_x"].low < 0.0, "forty examples cannot rule out that some are lost"


def test_a_request_without_an_input_is_refused_as_the_gateway_refuses_it() -> None:
    found = probed({"change": "missing"})
    assert found.summary["handled_under_x"].value == 1.0
    assert (found.changes["x"]["refused"], found.changes["x"]["answered"]) == (40, 0)
    assert "hit_under_x" not in found.summary, "there is no truth about a request that is none"


def test_failures_count_as_the_worst_answer_and_are_told() -> None:
    change = {"change": "rewording", "templates": ["word0 CRASH {text}"]}
    found = probed(change, Echo(breaks_on="CRASH"))
    assert found.summary["handled_under_x"].value == 0.0
    assert found.summary["hit_under_x"].value == 0.0
    assert found.summary["error_under_x"].value == 1.0, "errors from 0 to 1 pass for shares"
    assert found.changes["x"]["failures"] == ["ZeroDivisionError: bad day"] * 3
    refused = probed(change, Echo(refuses="CRASH"))
    assert refused.summary["handled_under_x"].value == 1.0
    assert refused.summary["hit_under_x"].value == 0.0


def test_one_bad_request_does_not_spoil_its_batch() -> None:
    requests = [{"question": text, "size": 1.0, "noise": 0.0} for text in ("fine", "CRASH", "STOP", "good")]
    answers = ask(Echo(breaks_on="CRASH", refuses="STOP"), requests)
    assert [answer.outcome for answer in answers] == [
        Outcome.ANSWERED, Outcome.FAILED, Outcome.REFUSED, Outcome.ANSWERED,
    ]  # fmt: skip


def test_a_number_that_is_none_is_a_failure() -> None:
    answers = ask(Echo(), [{"question": "word", "size": 1e308, "noise": 0.0}])
    assert answers[0].outcome is Outcome.FAILED and "size is inf" in answers[0].why


def test_a_model_that_does_not_answer_the_split_itself_is_an_error() -> None:
    with pytest.raises(DataError, match="does not answer example e00"):
        asked(Echo(breaks_on="word0"))


class TestOutOfScope:
    def requests(self, *texts: str) -> dict[str, Any]:
        return {"change": "out_of_scope", "requests": [{"question": t, "size": 1.0, "noise": 1.0} for t in texts]}

    def test_being_unsure_is_measured_and_the_surest_are_shown(self) -> None:
        found = probed(self.requests("soup?", "rain?", "word is out", "goals?"))
        assert found.summary["unsure_under_x"].value == 0.75
        assert found.summary["told_apart_under_x"].value == pytest.approx((3 * 1.0 + 0.5) / 4), "a tie counts half"
        assert [each["request"]["question"] for each in found.changes["x"]["surest"]] == ["word is out"]

    def test_a_refusal_is_as_good_as_being_unsure_and_falling_over_is_not(self) -> None:
        assert probed(self.requests("soup?"), Echo(refuses="soup")).summary["unsure_under_x"].value == 1.0
        assert probed(self.requests("soup?"), Echo(breaks_on="soup")).summary["unsure_under_x"].value == 0.0

    def test_requests_and_numbers_that_the_model_does_not_know_are_told(self) -> None:
        with pytest.raises(UserError, match="request 0"):
            probed({"change": "out_of_scope", "requests": [{"qestion": "soup?"}]})
        with pytest.raises(UserError, match="no number 'mood'"):
            probed({**self.requests("soup?"), "confidence": "mood"})


class TestDrivers:
    def test_inputs_that_matter_are_told_from_those_that_do_not(self) -> None:
        found = importance(asked(), seed=3)
        assert found["question"]["hit"]["low"] > 0.8
        assert found["size"]["error"]["low"] > 5.0, "an error that grows is a loss"
        assert found["size"]["hit"]["value"] == 0.0
        assert all(record["value"] == 0.0 for record in found["noise"].values())

    def test_what_answers_say_of_themselves_is_summed_up(self) -> None:
        found = told_by_answers(asked())
        assert found["n"] == 40
        assert found["parts"]["first"]["value"] == 0.75
        assert len(found["terms"]) == 20 and set(found["terms"].values()) == {round(0.5 / 40, 6)}

    def test_a_single_input_is_not_shuffled(self) -> None:
        runtime = Echo()
        runtime.inputs = {"question": "BYTES"}
        one = Asked(runtime, EXAMPLES, [], {"hit": np.ones(40)}, frozenset(), BOOTSTRAP)
        assert importance(one, seed=1) == {}
