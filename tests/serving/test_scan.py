"""What may not be in a package is refused wherever it hides; what the families export passes."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from safetensors.numpy import save as save_safetensors

from include.frameworks.onnx_models import save_column, save_constant
from include.serving.onnx_scan import OnnxFault, read_onnx
from include.serving.package import PackageError, seal
from include.serving.scan import UnsafeFile, scan


class Bomb:
    """Would create a file where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("/tmp/windtunnel-scan-was-here",)


def pickled(protocol: int) -> bytes:
    return pickle.dumps({"weights": Bomb()}, protocol=protocol)


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


def model(*nodes: Any, initializers: Any = (), functions: Any = (), domains: Any = ("",)) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    graph = helper.make_graph(list(nodes), "g", value[:1], value[1:], list(initializers))
    sets = [helper.make_opsetid(domain, 18 if not domain else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=sets, functions=list(functions))


def node(operator: str = "Relu", domain: str = "", **attributes: Any) -> Any:
    return helper.make_node(operator, ["x"], ["y"], domain=domain, **attributes)


def outside(location: str, **more: Any) -> Any:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(**files: Any) -> dict[str, Any]:
        for name, data in files.items():
            content = data.SerializeToString() if isinstance(data, onnx.ModelProto) else data
            (tmp_path / name.replace("__", ".")).write_bytes(content)
        return scan(tmp_path)

    return run


PYTHON_TYPE = {b"ARROW:schema": b"x arrow.py_extension_type x"}
TABLE = pa.table({"text": ["a"]})


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


GOOD = {
    "config__json": b'{"alpha": 0.5}',
    "note__txt": "Grüße. c1 .".encode(),
    "a__npy": npy(np.ones((3, 2), np.float32)),
    "s__npy": npy(np.array(["text", "of fixed length"])),
    "b__npz": zipped(a__npy=npy(np.ones(3)), b__npy=npy(np.zeros((2, 2)))),
    "t__parquet": parquet(TABLE),
    "w__safetensors": save_safetensors({"w": np.ones((2, 2), np.float32), "b": np.zeros(3, np.float32)}),
    "m__onnx": model(node(), node("DynamicQuantizeMatMul", "com.microsoft"), domains=("", "com.microsoft")),
}


def test_what_is_what_it_says_passes(look: Callable[..., Any], tmp_path: Path) -> None:
    found = look(**GOOD)
    assert found["files"] == len(GOOD) and found["kinds"][".npy"] == 2 and found["operators"] == 2
    save_column(tmp_path / "column.onnx", 4, 1)
    save_constant(tmp_path / "constant.onnx", 4, 2.0)
    assert scan(tmp_path)["kinds"][".onnx"] == 3


@pytest.mark.parametrize("name", sorted(GOOD))
def test_what_is_cut_off_or_longer_than_it_says_is_refused(look: Callable[..., Any], name: str) -> None:
    data = GOOD[name]
    whole = data.SerializeToString() if isinstance(data, onnx.ModelProto) else data
    if name != "note__txt":
        with pytest.raises(UnsafeFile):
            look(**{name: whole[:-3]})
    if name not in ("note__txt", "b__npz", "t__parquet", "m__onnx"):  # these are read from their end, or may have more
        with pytest.raises(UnsafeFile):
            look(**{name: whole + b"\x80\x04."})


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "joblib", "zip", "h5", "keras", "sh", "so", "ort", "py"])
def test_other_kinds_are_refused_whatever_they_hold(look: Callable[..., Any], suffix: str) -> None:
    with pytest.raises(UnsafeFile, match="kind that is not loaded"):
        look(**{f"weights__{suffix}": b"{}"})


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("suffix", ["json", "txt", "npy", "npz", "parquet", "safetensors", "onnx"])
def test_a_pickle_under_another_name_is_refused(look: Callable[..., Any], suffix: str, protocol: int) -> None:
    with pytest.raises(UnsafeFile):
        look(**{f"model__{suffix}": pickled(protocol)})


HIDDEN = {
    "an array of objects": ("a__npy", npy(np.array([Bomb()], dtype=object), allow_pickle=True)),
    "a record with an object": ("a__npy", npy(np.array([(1, Bomb())], dtype=[("n", int), ("o", object)]))),
    "an array of objects in an archive": ("a__npz", zipped(a__npy=npy(np.array([Bomb()], dtype=object)))),
    "a pickle in an archive": ("a__npz", zipped(a__npy=npy(np.ones(2)), data__pkl=pickled(4))),
    "a torch checkpoint": ("a__npz", zipped(**{"archive/data__pkl": pickled(2), "archive/version": b"3"})),
    "a member that leaves the archive": ("a__npz", zipped(**{"../a__npy": npy(np.ones(2))})),
    "an archive that grows": ("a__npz", zipped(a__npy=npy(np.zeros(20_000_000)))),
    "a table with a pickled type": ("t__parquet", parquet(TABLE.replace_schema_metadata(PYTHON_TYPE))),
    "no JSON": ("a__json", b"{'a': 1}"),
    "JSON of a million levels": ("a__json", b"[" * 1_000_000),
    "overlapping tensors": ("w__safetensors", (lambda h: len(h).to_bytes(8, "little") + h + b"\0" * 8)(
        json.dumps({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}).encode())),
    "a header without end": ("w__safetensors", (1 << 62).to_bytes(8, "little") + b"{}"),
    "an array longer than the world": ("a__npy", npy(np.ones(1)).replace(b"(1,)", b"(9,)")),
    "an operator of a library": ("m__onnx", model(node("Run", "evil.ops"), domains=("", "evil.ops"))),
    "an operator that runs Python": ("m__onnx", model(node("PythonOp", "com.microsoft"), domains=("com.microsoft",))),
    "an operator in a branch": ("m__onnx", model(node("If", then_branch=helper.make_graph(
        [node("Run", "evil.ops")], "then", [], [])))),
    "an operator in a function": ("m__onnx", model(node("F", "own"), domains=("", "own"), functions=[
        helper.make_function("own", "F", ["x"], ["y"], [node("Run", "evil.ops")], [helper.make_opsetid("", 18)])])),
    "weights in the folder above": ("m__onnx", model(node(), initializers=[outside("../../etc/passwd")])),
    "weights somewhere": ("m__onnx", model(node(), initializers=[outside("/etc/passwd")])),
    "weights in a file that is not there": ("m__onnx", model(node(), initializers=[outside("weights.npy")])),
    "weights in an attribute": ("m__onnx", model(node("Constant", value=outside("/etc/passwd")))),
    "weights without a place": ("m__onnx", model(node(), initializers=[outside("")])),
    "no graph": ("m__onnx", onnx.ModelProto(ir_version=9)),
    "nothing": ("m__onnx", b""),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(HIDDEN))
def test_harm_is_found_where_it_hides(look: Callable[..., Any], what: str) -> None:
    name, data = HIDDEN[what]
    with pytest.raises(UnsafeFile, match="do not load it") as caught:
        look(**{name: data})
    assert name.replace("__", ".") in caught.value.message and len(str(caught.value)) < 1000
    assert not Path("/tmp/windtunnel-scan-was-here").exists()


def test_an_array_of_objects_is_refused_even_where_its_size_fits(look: Callable[..., Any]) -> None:
    whole = npy(np.array([Bomb()], dtype=object), allow_pickle=True)
    header = whole[: whole.index(b"\n") + 1]
    with pytest.raises(UnsafeFile, match="array of objects"):
        look(a__npy=header + b"\0" * 8)


def test_weights_beside_the_model_may_be_there_but_not_beyond_the_files_end(look: Callable[..., Any]) -> None:
    look(
        w__npy=npy(np.ones(8, np.float32)), m__onnx=model(node(), initializers=[outside("w.npy", offset=128, length=8)])
    )
    with pytest.raises(UnsafeFile, match="beyond the end"):
        look(m__onnx=model(node(), initializers=[outside("w.npy", offset=128, length=10**9)]))
    with pytest.raises(UnsafeFile, match="no number"):
        look(m__onnx=model(node(), initializers=[outside("w.npy", offset="-1")]))


def test_own_functions_of_plain_operators_pass(look: Callable[..., Any]) -> None:
    own = helper.make_function("own", "F", ["x"], ["y"], [node()], [helper.make_opsetid("", 18)])
    assert look(m__onnx=model(node("F", "own"), domains=("", "own"), functions=[own]))["operators"] == 2


def test_a_link_is_refused(look: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFile, match="a link"):
        look()


def test_graphs_that_are_nested_without_end_are_refused() -> None:
    def field(number: int, inner: bytes) -> bytes:
        size = len(inner)
        return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7]) + inner

    graph = b""
    for _ in range(60):  # a node's attribute holds a graph
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(OnnxFault, match="nested"):
        read_onnx(memoryview(field(7, graph)))


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_bytes_break_the_reader(noise: bytes, at: int) -> None:
    data = GOOD["m__onnx"].SerializeToString()
    with suppress(OnnxFault):
        read_onnx(memoryview(data[:at] + noise + data[at:]))


def test_the_reader_sees_what_onnx_sees(tmp_path: Path) -> None:
    for path in Path(onnx.__file__).parent.rglob("*.onnx"):
        try:
            loaded = onnx.load(str(path), load_external_data=False)
        except Exception:  # some of the library's own files are broken on purpose
            continue
        found = read_onnx(memoryview(path.read_bytes()))
        assert {(each.domain, each.op_type) for each in loaded.graph.node} <= found.operators


def test_an_unsafe_export_is_never_sealed(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy(np.array([Bomb()], dtype=object)))
    with pytest.raises(UnsafeFile):
        seal(tmp_path, "tiny", "a:B", {})
    (tmp_path / "a.npy").rename(tmp_path / "a.pkl")
    with pytest.raises(PackageError, match="allowed kinds"):
        seal(tmp_path, "tiny", "a:B", {})
