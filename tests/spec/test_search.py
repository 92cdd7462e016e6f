"""The spec of a sweep: what it refuses, and what a grid holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from include.spec import SpecError
from include.spec.load import FAMILIES, parse_spec
from include.spec.search import SweepSpec
from include.spec.space import applies, drawing_order, grid_points

RATE = {"kind": "float", "low": 0.1, "high": 0.5}
KIND = {"kind": "choice", "values": ["sgd", "adam"]}


def _sweep(**changes: Any) -> SweepSpec:
    return SweepSpec.model_validate({"metric": "m", "space": {"rate": RATE}} | changes)


@pytest.mark.parametrize(
    ("range_", "said"),
    [
        ({"kind": "float", "low": 2, "high": 1}, "low .2. is above high .1."),
        ({"kind": "float", "low": 0, "high": 1, "log": True}, "must start above 0"),
        ({"kind": "int", "low": 0, "high": 8, "log": True}, "must start above 0"),
        ({"kind": "float", "low": 0.1, "high": 1, "log": True, "step": 0.1}, "a log range has no step"),
        ({"kind": "int", "low": 1, "high": 9, "log": True, "step": 2}, "a log range has no step"),
        ({"kind": "float", "low": 0, "high": 1, "step": 0.3}, "steps of 0.3 from 0 reach 0.9, and not high .1."),
        ({"kind": "int", "low": 1, "high": 8, "step": 3}, "reach 7, and not high .8."),
        ({"kind": "float", "low": 0, "high": 1, "step": 0}, "greater than 0"),
        ({"kind": "float", "low": 0, "high": float("inf")}, "finite"),
        ({"kind": "choice", "values": [1, 2, True]}, "True is listed twice"),
        ({"kind": "choice", "values": [float("nan")]}, "nan is no number"),
        ({"kind": "choice", "values": ["a"], "when": {"nope": [1]}}, "asks about a `choice` of the space"),
        ({"kind": "choice", "values": ["a"], "when": {"rate": [0.1]}}, "asks about a `choice` of the space"),
        ({"kind": "choice", "values": ["a"], "when": {"kind": ["adamw"]}}, "not 'adamw'"),
        ({"kind": "choice", "values": ["a"], "when": {"kind": []}}, "give one or more of"),
        ({"kind": "choice", "values": ["a"], "when": {"tested": ["a"]}}, "wait for each other"),
    ],
)
def test_ranges_that_cannot_be_searched_are_refused(range_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _sweep(space={"tested": range_, "rate": RATE, "kind": KIND})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"second": {"metric": "latency_p50_ms", "limit": 1}}, "set `pruner: none`"),
        ({"second": {"metric": "latency_p50_ms"}, "pruner": "none"}, "`limit` goes with"),
        ({"second": {"metric": "cost", "limit": 1, "choose": "knee"}, "pruner": "none"}, "`limit` goes with"),
        ({"second": {"metric": "m", "limit": 1}, "pruner": "none"}, "the sweep's own metric"),
        ({"second": {"metric": "memory_mb", "limit": 1, "direction": "maximize"}}, "set `direction: minimize`"),
        ({"second": {"metric": "throughput_per_second", "limit": 1}}, "set `direction: maximize`"),
        (
            {"second": {"metric": "c", "limit": 1}, "pruner": "none", "convergence": {"patience": 2}},
            "convergence looks at one",
        ),
        ({"confirm": {"seeds": 1}}, "greater than or equal to 2"),
        ({"sampler": "grid", "trials": 2}, "3 points .* set trials to 4"),
        ({"sampler": "grid", "space": {"n": {"kind": "int", "low": 0, "high": 10**9}}}, "more than 1000 points"),
        ({"sampler": "cma"}, "tpe"),
    ],
)
def test_sweeps_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _sweep(**changes)


def test_the_error_says_where_in_the_file(tmp_path: Path) -> None:
    text = (FAMILIES / "compliance_qa" / "family.yaml").read_text()
    wrong = text.replace("{kind: float, low: 0.7, high: 1.0}", "{kind: float, low: 0.7, high: 1.0, step: 0.2}", 1)
    assert wrong != text
    path = tmp_path / "compliance_qa" / "family.yaml"
    path.parent.mkdir()
    path.write_text(wrong)
    with pytest.raises(SpecError, match=r"sweep\.space\.interpolation.*reach 0.9, and not high") as caught:
        parse_spec(path)
    line = next(n for n, row in enumerate(wrong.splitlines(), 1) if "step: 0.2" in row)
    assert [problem["line"] for problem in caught.value.fields["problems"]] == [line]


CONDITIONAL: dict[str, Any] = {
    "momentum": {"kind": "float", "low": 0.0, "high": 0.9, "step": 0.45, "when": {"kind": ["sgd"], "deep": [True]}},
    "kind": {**KIND, "when": {"deep": [True]}},
    "deep": {"kind": "choice", "values": [True, False]},
}


def test_conditions_decide_what_is_drawn_and_in_which_order() -> None:
    space = _sweep(space=CONDITIONAL).space
    assert drawing_order(space) == ["deep", "kind", "momentum"]
    assert applies(space["momentum"], {"deep": True, "kind": "sgd"})
    assert not applies(space["momentum"], {"deep": True, "kind": "adam"})
    assert not applies(space["momentum"], {"deep": False})  # where `kind` is not drawn at all


def test_a_grid_holds_every_point_once() -> None:
    points = list(grid_points(_sweep(space=CONDITIONAL).space))
    assert points == [
        {"deep": True, "kind": "sgd", "momentum": 0.0},
        {"deep": True, "kind": "sgd", "momentum": 0.45},
        {"deep": True, "kind": "sgd", "momentum": 0.9},
        {"deep": True, "kind": "adam"},
        {"deep": False},
    ]
    log = {"a": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}}
    assert [point["a"] for point in grid_points(_sweep(space=log).space)] == [1e-4, pytest.approx(1e-3), 1e-2]
    log = {"b": {"kind": "int", "low": 1, "high": 16, "log": True}}
    assert [point["b"] for point in grid_points(_sweep(space=log).space)] == [1, 4, 16]
