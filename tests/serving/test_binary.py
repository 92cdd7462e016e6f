"""Binary tensors that do not add up: a sentence for each, and no value that nobody sent."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from include.serving import binary
from include.serving.tensors import InferRequest
from include.serving.wire import RequestError


def request(size: Any, datatype: str = "FP32", shape: tuple[int, ...] = (2,), **fields: Any) -> InferRequest:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}, **fields}
    return InferRequest.model_validate({"inputs": [tensor]})


def text(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


@pytest.mark.parametrize(
    ("asked", "raw", "said"),
    [
        (request(8), b"", "8 bytes are announced, 0 are there"),
        (request(8), b"w" * 9, "1 bytes belong to no input"),
        (request(7), b"w" * 7, "2 values of FP32 are not 7 bytes"),
        (request(-1), b"", "number of its bytes"),
        (request(True), b"w", "number of its bytes"),
        (request("8"), b"w" * 8, "number of its bytes"),
        (request(8, data=[1.0, 2.0]), b"w" * 8, "either `data`"),
        (request(None), b"", "there is no `data`"),
        (request(8, "FP8"), b"w" * 8, "unknown datatype 'FP8'"),
        (request(2, "BOOL"), b"\x01\x02", "0 or 1"),
        (request(10**9, shape=(10**9,)), b"", "10+ bytes are announced"),
        (request(8, shape=(2000,)), b"w" * 8, "more than 1000 values"),
        (request(6, "BYTES"), text(b"a") + b"b", "not 2 texts"),
        (request(5, "BYTES"), text(b"a"), "not 2 texts"),
        (request(15, "BYTES"), text(b"a") * 3, "not 2 texts"),
        (request(8, "BYTES"), b"\xff" * 8, "not 2 texts"),
        (request(10, "BYTES"), text(b"a") + text(b"\xff"), "text 1 is not UTF-8"),
    ],
)
def test_what_does_not_add_up_is_refused(asked: InferRequest, raw: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said.replace("10+", "1000000000")) as caught:
        binary.fill(asked, raw, 1000)
    assert 400 <= caught.value.status < 500


@pytest.mark.parametrize("length", ["x", "-1", "", "6", "99999999999999", "1.0", "²"])
def test_a_header_length_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(RequestError, match="expected a length of at most 5 bytes"):
        binary.split(b"{}abc", length)
    assert binary.split(b"{}abc", "2") == (b"{}", b"abc")
    assert binary.split(b"{}", None) == (b"{}", b"")


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT8", "INT16", "UINT32", "INT64", "UINT64", "FP16", "FP64"])
def test_values_come_out_as_they_went_in(datatype: str) -> None:
    values = [True, False] if datatype == "BOOL" else [1, 0, 100] if "INT" in datatype else [0.5, -2.0]
    output = {"name": "x", "shape": [len(values)], "datatype": datatype, "data": values}
    response = binary.binary_reply({"outputs": [output]}, {"x"})
    header, raw = binary.split(bytes(response.body), response.headers[binary.HEADER])
    record = json.loads(header)["outputs"][0]
    assert "data" not in record
    asked = request(record["parameters"]["binary_data_size"], datatype, (len(values),))
    binary.fill(asked, raw, 1000)
    assert asked.inputs[0].data == values


def test_an_output_that_is_missing_is_no_number_and_no_text() -> None:
    outputs = [
        {"name": "x", "shape": [1], "datatype": "FP32", "data": [None]},
        {"name": "t", "shape": [1], "datatype": "BYTES", "data": [None]},
        {"name": "kept", "shape": [1], "datatype": "FP32", "data": [1.0]},
    ]
    response = binary.binary_reply({"outputs": outputs}, {"x", "t"})
    header, raw = binary.split(bytes(response.body), response.headers[binary.HEADER])
    assert np.isnan(np.frombuffer(raw[:4], np.float32)[0]) and raw[4:] == text(b"")
    assert json.loads(header)["outputs"][2]["data"] == [1.0]
