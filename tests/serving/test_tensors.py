"""Tensors of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

import pytest

from include.serving.calls import Answers, ModelError
from include.serving.tensors import InferRequest, batch, check_value, one_row, tensor_out
from include.serving.wire import RequestError


class Runtime:
    """Only the names and datatypes."""

    inputs = {"text": "BYTES", "point": "FP32", "count": "INT8", "on": "BOOL"}
    outputs = {"score": "FP32", "names": "BYTES"}


def request(**tensors: tuple[list[int], str, list[Any]]) -> InferRequest:
    values = {
        "text": ([2], "BYTES", ["a", "b"]), "point": ([2, 2], "FP32", [1, 2.5, 3, 4]),
        "count": ([2, 1], "INT8", [[1], [-128]]), "on": ([2], "BOOL", [True, False]),
    }  # fmt: skip
    inputs = [
        {"name": name, "shape": shape, "datatype": datatype, "data": data}
        for name, (shape, datatype, data) in (values | tensors).items()
    ]
    return InferRequest.model_validate({"inputs": inputs})


def test_flat_and_nested_data_become_one_value_per_row() -> None:
    expected = {"text": ["a", "b"], "point": [[1, 2.5], [3, 4]], "count": [1, -128], "on": [True, False]}
    assert batch(Runtime(), request(), 10, 100, 1000) == (expected, 2)  # type: ignore[arg-type]
    nested = request(point=([2, 2], "FP32", [[1, 2.5], [3, 4]]))
    assert batch(Runtime(), nested, 10, 100, 1000) == (expected, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("BYTES", 1), ("BYTES", None), ("BYTES", " "), ("BYTES", "x" * 101), ("BOOL", 1), ("BOOL", "true"),
        ("FP32", True), ("FP32", "1"), ("FP32", None), ("FP32", float("nan")), ("FP32", float("inf")),
        ("FP64", 10**400),
        ("INT8", 128), ("INT8", -129), ("INT64", 2**63), ("UINT8", -1), ("UINT8", 256), ("INT32", 1.0), ("INT32", True),
        ("INT32", []), ("SOMETHING", 1),
    ],
)  # fmt: skip
def test_values_of_another_kind_are_refused(datatype: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        check_value("it", datatype, value, 100)
    assert caught.value.status == 422 and caught.value.message.startswith("it: ")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("BYTES", "x" * 100), ("BOOL", False), ("FP32", 1), ("FP32", -1.5), ("INT8", -128), ("UINT64", 2**64 - 1)],
)
def test_values_of_the_kind_are_taken(datatype: str, value: Any) -> None:
    check_value("it", datatype, value, 100)


def test_inputs_must_have_the_same_number_of_rows() -> None:
    with pytest.raises(RequestError, match="same first dimension"):
        batch(Runtime(), request(text=([3], "BYTES", ["a", "b", "c"])), 10, 100, 1000)  # type: ignore[arg-type]


def test_a_single_row_may_hold_lists_and_every_element_is_checked() -> None:
    row = {"text": "a", "point": [1, 2], "count": 1, "on": True}
    assert one_row(Runtime(), row, 100, 1000)["point"] == [[1, 2]]  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="point"):
        one_row(Runtime(), row | {"point": [1, "x"]}, 100, 1000)  # type: ignore[arg-type]


def test_outputs_have_their_shape_and_ragged_ones_are_refused() -> None:
    answers = Answers({"score": [0.5, 1.0], "names": [["a", "b"], ["c", "d"]]}, [{}, {}])
    assert tensor_out(Runtime(), answers, "names") == {  # type: ignore[arg-type]
        "name": "names", "shape": [2, 2], "datatype": "BYTES", "data": ["a", "b", "c", "d"],
    }  # fmt: skip
    ragged = Answers({"names": [["a", "b"], ["c"], ["d", "e", "f"]]}, [{}, {}, {}])
    with pytest.raises(ModelError, match="different lengths"):
        tensor_out(Runtime(), ragged, "names")  # type: ignore[arg-type]
