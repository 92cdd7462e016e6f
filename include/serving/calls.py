"""One call of a model for one request or several, and what may go wrong in it.

Model code may raise anything, and ends no thread by it: every request of a merged call gets its answer or its error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.errors import WindtunnelError, clip
from include.families.contract import ModelRuntime

Inputs = Mapping[str, Sequence[Any]]


class ModelError(WindtunnelError):
    """A model broke the runtime contract."""


class ModelTimeout(ModelError):
    """A model did not answer in time."""


class ModelStuck(ModelTimeout):
    """No thread of a model is left that could answer; a request fails without waiting for its time to be over."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered to one request: outputs by name, and one record for people per row."""

    outputs: dict[str, list[Any]]
    records: list[dict[str, Any]]


Results = list[Answers | Exception]


def answer(runtime: ModelRuntime, inputs: Inputs, rows: int) -> Answers:
    """One model call.

    Raises:
        ModelError: The model returned another number of answers than it was asked for.
        Exception: Whatever the model's code raises.
    """
    outputs = runtime.predict(inputs)
    for name, values in outputs.items():
        if len(values) != rows:
            raise ModelError(f"the model gave {len(values)} values of {name!r} for {rows} rows")
    return Answers(outputs, [runtime.answer(outputs, index) for index in range(rows)])


def run_call(runtime: ModelRuntime, inputs: list[Inputs], rows: list[int]) -> Results:
    """Never raises: every request gets its answer or its own error."""
    if len(inputs) == 1:
        return [_one(runtime, inputs[0], rows[0])]
    try:
        merged = {name: [value for one in inputs for value in one[name]] for name in inputs[0]}
        return _split(answer(runtime, merged, sum(rows)), rows)
    except BaseException:  # model code may raise anything; whoever's input it was must not fail the others
        return [_one(runtime, one, count) for one, count in zip(inputs, rows, strict=True)]


def _one(runtime: ModelRuntime, inputs: Inputs, rows: int) -> Answers | Exception:
    try:
        return answer(runtime, inputs, rows)
    except Exception as error:  # model code may raise anything; it becomes this request's error
        return error
    except BaseException as error:  # an exit or a panic would end this thread, and nobody would ever be answered
        return ModelError(f"the model ended its call with {type(error).__name__}: {clip(error, 200)}")


def _split(answers: Answers, rows: list[int]) -> Results:
    parts: Results = []
    start = 0
    for count in rows:
        stop = start + count
        outputs = {name: values[start:stop] for name, values in answers.outputs.items()}
        parts.append(Answers(outputs, answers.records[start:stop]))
        start = stop
    return parts


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of nested lists; () for a plain value."""
    shape: list[int] = []
    while isinstance(value, (list, tuple)):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)
