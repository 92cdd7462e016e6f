"""The Open Inference Protocol (v2, JSON form): tensors in, tensors out, and checks of every value on the way.

https://github.com/kserve/open-inference-protocol. The first dimension of a tensor counts examples; all inputs of a
request have the same number of them. A trailing dimension of 1 (`[n, 1]`, which many clients send) is taken as `[n]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from include.families.contract import ModelRuntime
from include.serving.calls import Answers, ModelError, shape_of
from include.serving.wire import RequestError

_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_BITS = (8, 16, 32, 64)
_INTEGERS = {f"INT{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in _BITS} | {
    f"UINT{bits}": (0, (1 << bits) - 1) for bits in _BITS
}
_MAX_DIMENSIONS = 4
Short = Annotated[str, Field(max_length=256)]


class TensorIn(BaseModel):
    """An input tensor of a request."""

    model_config = ConfigDict(extra="forbid")

    name: Short
    shape: list[Annotated[StrictInt, Field(ge=0)]] = Field(max_length=_MAX_DIMENSIONS)
    datatype: Short
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class OutputWanted(BaseModel):
    """An output that a request names."""

    name: Short
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """Body of `POST /v2/models/{family}/infer`."""

    id: Short | None = None
    parameters: dict[str, Any] = {}
    inputs: list[TensorIn] = Field(min_length=1, max_length=64)
    outputs: list[OutputWanted] = Field(default=[], max_length=64)


def check_value(name: str, datatype: str, value: Any, max_text: int) -> None:
    """Checks one element of an input.

    Raises:
        RequestError: It is not of `datatype`, out of range, not finite, or too long.
    """
    if datatype == "BYTES":
        if not isinstance(value, str):
            raise RequestError(f"{name}: expected text, not {_kind(value)}")
        if len(value) > max_text:
            raise RequestError(f"{name}: {len(value)} characters; at most {max_text} are taken")
        if not value.strip():
            raise RequestError(f"{name}: is empty")
        return
    if datatype == "BOOL":
        fits = isinstance(value, bool)
    elif datatype in _FLOATS:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)
    else:
        low, high = _INTEGERS.get(datatype, (0, -1))
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if not fits:
        raise RequestError(f"{name}: {_kind(value)} is not a {datatype} value")


def one_row(runtime: ModelRuntime, values: Mapping[str, Any], max_text: int, max_values: int) -> dict[str, list[Any]]:
    """A single example as the batch of one that the runtime takes.

    Raises:
        RequestError: An input is missing, unknown, too large or not of its datatype.
    """
    _same_names(values.keys(), runtime)
    count = 0
    for name, datatype in runtime.inputs.items():
        value = values[name]
        for element in _flat(value, _MAX_DIMENSIONS) if isinstance(value, list) else (value,):
            count += 1
            if count > max_values:
                raise _too_many(max_values)
            check_value(name, datatype, element, max_text)
    return {name: [values[name]] for name in runtime.inputs}


def batch(
    runtime: ModelRuntime, request: InferRequest, max_rows: int, max_text: int, max_values: int
) -> tuple[dict[str, list[Any]], int]:
    """The inputs of a request, and how many examples they hold.

    Raises:
        RequestError: Names, datatypes, shapes or values do not fit the model.
    """
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if len(tensors) != len(request.inputs):
        raise RequestError("an input is given twice")
    _same_names(tensors.keys(), runtime)
    rows = {tensor.shape[0] if tensor.shape else 0 for tensor in request.inputs}
    if len(rows) != 1:
        raise RequestError("all inputs must have the same first dimension, the number of examples")
    (count,) = rows
    if not 1 <= count <= max_rows:
        raise RequestError(f"{count} examples; a request takes 1 to {max_rows}")
    if sum(math.prod(tensor.shape) for tensor in request.inputs) > max_values:
        raise _too_many(max_values)
    inputs = {name: _values(tensors[name], datatype, max_text) for name, datatype in runtime.inputs.items()}
    return inputs, count


def wanted_outputs(runtime: ModelRuntime, request: InferRequest) -> list[str]:
    """Names of the outputs to send, in the model's order.

    Raises:
        RequestError: One of them is unknown.
    """
    names = {output.name for output in request.outputs} or set(runtime.outputs)
    unknown = names - set(runtime.outputs)
    if unknown:
        raise RequestError(f"unknown output {min(unknown)!r}; known: {', '.join(runtime.outputs)}")
    return [name for name in runtime.outputs if name in names]


def tensor_out(runtime: ModelRuntime, answers: Answers, name: str) -> dict[str, Any]:
    """An output as a tensor, data in row-major order.

    Raises:
        ModelError: The model's rows have different lengths.
    """
    values = answers.outputs[name]
    shape = shape_of(values)
    data = list(_flat(values, len(shape)))
    if any(shape_of(value) != shape[1:] for value in values):
        raise ModelError(f"the rows of output {name!r} have different lengths")
    return {"name": name, "shape": list(shape), "datatype": runtime.outputs[name], "data": data}


def _too_many(limit: int) -> RequestError:
    return RequestError(f"more than {limit} values", hint="send fewer examples at once")


def _same_names(given: Any, runtime: ModelRuntime) -> None:
    takes = f"the model takes: {', '.join(runtime.inputs)}"
    if unknown := sorted(set(given) - set(runtime.inputs)):
        raise RequestError(f"unknown input {unknown[0][:100]!r}; {takes}")
    if missing := sorted(set(runtime.inputs) - set(given)):
        raise RequestError(f"input {missing[0]!r} is missing; {takes}")


def _values(tensor: TensorIn, datatype: str, max_text: int) -> list[Any]:
    """The tensor's data as one value (or nested list) per example."""
    name = tensor.name
    if tensor.datatype != datatype:
        raise RequestError(f"{name}: datatype is {tensor.datatype[:32]!r}; the model takes {datatype}")
    flat = list(_flat(tensor.data or [], _MAX_DIMENSIONS))
    if len(flat) != math.prod(tensor.shape):
        raise RequestError(
            f"{name}: shape {tensor.shape} asks for {math.prod(tensor.shape)} values, data holds {len(flat)}"
        )
    for value in flat:
        check_value(name, datatype, value, max_text)
    shape = list(tensor.shape[1:])
    while shape and shape[-1] == 1:
        shape.pop()
    for size in reversed(shape):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat


def _flat(values: Sequence[Any], depth: int) -> Iterator[Any]:
    for value in values:
        if depth > 1 and isinstance(value, (list, tuple)):
            yield from _flat(value, depth - 1)
        else:
            yield value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {
        bool: "true/false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }.get(type(value), "that")
