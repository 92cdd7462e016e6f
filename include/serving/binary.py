"""The binary tensor data extension of the Open Inference Protocol: raw values behind the JSON instead of inside it.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html. A body
is the JSON, as long as the header `Inference-Header-Content-Length` says, and then the bytes of each binary tensor in
the order of the JSON: little-endian numbers in row-major order, or texts with 4 bytes of length before each. Triton's
Python client sends and asks for this unless it is told otherwise.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from include.serving.calls import ModelError
from include.serving.encoding import encode
from include.serving.wire import RequestError

if TYPE_CHECKING:
    from include.serving.tensors import InferRequest, TensorIn

HEADER = "inference-header-content-length"
SIZE, WANTED, ALL_WANTED = "binary_data_size", "binary_data", "binary_data_output"
_MEDIA_TYPE = "application/octet-stream"
_LENGTH = struct.Struct("<I")
_DTYPES = {
    "BOOL": np.dtype("?"), "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}  # fmt: skip


def split(body: bytes, length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body and what lies behind it; `length` is the header's value, None where there is none.

    Raises:
        RequestError: The header is no length inside the body (400).
    """
    if length is None:
        return body, b""
    if not (length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= len(body)):
        raise RequestError(f"{HEADER}: expected a length of at most {len(body)} bytes", status=400)
    return body[: int(length)], body[int(length) :]


def fill(request: InferRequest, raw: bytes, max_values: int) -> None:
    """Gives the binary inputs of a request their values.

    Raises:
        RequestError: Sizes, shapes and bytes do not fit together.
    """
    start = 0
    for tensor in request.inputs:
        size = tensor.parameters.get(SIZE)
        if size is None:
            if tensor.data is None:
                raise RequestError(f"{tensor.name}: there is no `data`, and no `{SIZE}` in its parameters")
            continue
        if tensor.data is not None or isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise RequestError(f"{tensor.name}: give either `data`, or the number of its bytes as `{SIZE}`")
        if start + size > len(raw):
            raise RequestError(f"{tensor.name}: {size} bytes are announced, {len(raw) - start} are there")
        count = math.prod(tensor.shape)
        if count > max_values:
            raise RequestError(f"{tensor.name}: more than {max_values} values", hint="send fewer examples at once")
        tensor.data = _read(tensor, raw[start : start + size], count)
        start += size
    if start != len(raw):
        raise RequestError(f"{len(raw) - start} bytes belong to no input")


def _read(tensor: TensorIn, raw: bytes, count: int) -> list[Any]:
    if tensor.datatype == "BYTES":
        return _texts(tensor.name, raw, count)
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise RequestError(f"{tensor.name}: unknown datatype {tensor.datatype[:32]!r}")
    if len(raw) != count * dtype.itemsize:
        raise RequestError(f"{tensor.name}: {count} values of {tensor.datatype} are not {len(raw)} bytes")
    if tensor.datatype == "BOOL" and raw.translate(None, b"\x00\x01"):
        raise RequestError(f"{tensor.name}: a BOOL is 0 or 1")
    values: list[Any] = np.frombuffer(raw, dtype).tolist()
    return values


def _texts(name: str, raw: bytes, count: int) -> list[str]:
    texts: list[str] = []
    start = 0
    while start < len(raw) and len(texts) < count:
        if start + _LENGTH.size > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, start)
        start += _LENGTH.size
        if start + length > len(raw):
            break
        try:
            texts.append(raw[start : start + length].decode())
        except UnicodeDecodeError:
            raise RequestError(f"{name}: text {len(texts)} is not UTF-8") from None
        start += length
    if start != len(raw) or len(texts) != count:
        raise RequestError(f"{name}: its {len(raw)} bytes are not {count} texts with their lengths before them")
    return texts


def wanted(request: InferRequest, names: Sequence[str]) -> set[str]:
    """The outputs that the client wants in binary."""
    default = request.parameters.get(ALL_WANTED) is True
    said = {output.name: output.parameters.get(WANTED, default) is True for output in request.outputs}
    return {name for name in names if said.get(name, default)}


def binary_reply(record: Mapping[str, Any], names: set[str]) -> Response:
    """The response whose outputs of these names are binary.

    Raises:
        ModelError: A value is not of its output's datatype.
    """
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for output in record["outputs"]:
        if output["name"] in names:
            raw = _write(output)
            parts.append(raw)
            kept = {key: value for key, value in output.items() if key != "data"}
            output = {**kept, "parameters": {SIZE: len(raw)}}
        outputs.append(output)
    header = encode({**record, "outputs": outputs})
    return Response(b"".join([header, *parts]), media_type=_MEDIA_TYPE, headers={HEADER: str(len(header))})


def _write(output: Mapping[str, Any]) -> bytes:
    if output["datatype"] == "BYTES":
        texts = [("" if value is None else str(value)).encode() for value in output["data"]]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    dtype = _DTYPES[output["datatype"]]
    try:
        return np.array([math.nan if value is None else value for value in output["data"]], dtype).tobytes()
    except (ValueError, TypeError, OverflowError):
        raise ModelError(f"an output {output['name']!r} is no {output['datatype']}") from None
