"""Reads what an ONNX file would run and which files it would open, without onnx: the gateway's image has none.

A walk over the protobuf wire format (https://protobuf.dev/programming-guides/encoding) that visits only what can do
harm: the operators of the graph, of the graphs inside its nodes and of the model's own functions, and the places of
tensors that are kept in other files. Weights are stepped over, so a model of any size costs what its graph costs.
Numbers of fields are those of `onnx.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from include.errors import DataError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS, _MOST_DEPTH, _MOST_VARINT = 20_000_000, 32, 10
_EXTERNAL = 1

Value = int | memoryview


class OnnxFault(DataError):
    """The file is no ONNX model, or a broken one."""


@dataclass
class OnnxContent:
    """What a model is made of.

    Attributes:
        operators: (domain, name) of every node.
        functions: (domain, name) of the model's own functions.
        external: Places of tensors in other files: (location, offset, length), as the file says.
    """

    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: set[tuple[str, str, str]] = field(default_factory=set)
    graphs: int = 0


def read_onnx(data: memoryview) -> OnnxContent:
    """The content of a model file. Raises `OnnxFault`."""
    walk = _Walk()
    walk.model(data)
    if not walk.found.graphs:
        raise OnnxFault("the file holds no graph")
    return walk.found


class _Walk:
    """Visits messages; `found` is what was seen."""

    def __init__(self) -> None:
        self.found = OnnxContent()
        self._fields = 0

    def model(self, data: memoryview) -> None:
        for number, value in self._messages(data):
            if number == 7:
                self._graph(value, 0)
            elif number == 20:
                self._training(value)
            elif number == 25:
                self._function(value)

    def _training(self, data: memoryview) -> None:
        for number, value in self._messages(data):
            if number in (1, 2):
                self._graph(value, 0)

    def _function(self, data: memoryview) -> None:
        name = domain = ""
        for number, value in self._messages(data):
            if number == 1:
                name = _text(value)
            elif number == 10:
                domain = _text(value)
            elif number == 7:
                self._node(value, 0)
            elif number == 11:
                self._attribute(value, 0)
        self.found.functions.add((domain, name))

    def _graph(self, data: memoryview, depth: int) -> None:
        if depth > _MOST_DEPTH:
            raise OnnxFault(f"graphs are nested more than {_MOST_DEPTH} deep")
        self.found.graphs += 1
        for number, value in self._messages(data):
            if number == 1:
                self._node(value, depth)
            elif number == 5:
                self._tensor(value)
            elif number == 15:
                self._sparse(value)

    def _node(self, data: memoryview, depth: int) -> None:
        operator = domain = ""
        for number, value in self._messages(data):
            if number == 4:
                operator = _text(value)
            elif number == 7:
                domain = _text(value)
            elif number == 5:
                self._attribute(value, depth)
        self.found.operators.add((domain, operator))

    def _attribute(self, data: memoryview, depth: int) -> None:
        for number, value in self._messages(data):
            if number in (5, 10):
                self._tensor(value)
            elif number in (6, 11):
                self._graph(value, depth + 1)
            elif number in (22, 23):
                self._sparse(value)

    def _sparse(self, data: memoryview) -> None:
        for number, value in self._messages(data):
            if number in (1, 2):
                self._tensor(value)

    def _tensor(self, data: memoryview) -> None:
        external, place = False, {}
        for number, value in self._fields_of(data):
            if number == 14:
                external = value == _EXTERNAL
            elif number == 13 and isinstance(value, memoryview):
                entry = {key: _text(text) for key, text in self._messages(value) if key in (1, 2)}
                place[entry.get(1, "")] = entry.get(2, "")
        if external or place:  # a runtime may look at either
            self.found.external.add((place.get("location", ""), place.get("offset", ""), place.get("length", "")))

    def _messages(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        for number, value in self._fields_of(data):
            if isinstance(value, memoryview):
                yield number, value

    def _fields_of(self, data: memoryview) -> Iterator[tuple[int, Value]]:
        at, end = 0, len(data)
        while at < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise OnnxFault(f"the file has more than {_MOST_FIELDS} fields")
            tag, at = _varint(data, at)
            kind, number = tag & 7, tag >> 3
            if number == 0:
                raise OnnxFault("the file is no protobuf message")
            if kind == _VARINT:
                value, at = _varint(data, at)
                yield number, value
                continue
            if kind == _BYTES:
                size, at = _varint(data, at)
            elif kind in (_FIXED64, _FIXED32):
                size = 8 if kind == _FIXED64 else 4
            else:
                raise OnnxFault("the file is no protobuf message")
            if size > end - at:
                raise OnnxFault("the file ends in the middle of a message")
            if kind == _BYTES:
                yield number, data[at : at + size]
            at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MOST_VARINT):
        if at >= len(data):
            raise OnnxFault("the file ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise OnnxFault("a number is longer than protobuf allows")


def _text(data: memoryview) -> str:
    try:
        return str(data[:1024], "utf-8")
    except UnicodeDecodeError as error:
        raise OnnxFault("a name is not UTF-8") from error
