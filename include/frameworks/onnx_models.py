"""ONNX models over one matrix of features: made by hand, run, and held against the model that they come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from include.errors import WindtunnelError

if TYPE_CHECKING:
    import onnx

FEATURES = "features"
OPSET = 18
#: Largest difference between framework and ONNX runtime, as a share of the largest prediction.
MAX_DIFFERENCE = 1e-4

Floats = NDArray[np.float32]


class ParityError(WindtunnelError):
    """The exported model does not answer like the trained one."""


class OnnxModel:
    """Features (n, width) -> predictions (n,), with onnxruntime. Thread-safe."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._output = self._session.get_outputs()[-1].name  # a classifier's labels come first, its scores last

    def predict(self, features: Floats) -> Floats:
        """One number per row; of a classifier, the probability of its last class."""
        found = np.asarray(self._session.run([self._output], {FEATURES: features})[0], dtype=np.float32)
        return found if found.ndim == 1 else found[:, -1]


def check_parity(path: Path, features: Floats, expected: NDArray[Any]) -> dict[str, Any]:
    """Facts for the model card, where ONNX predicts as the framework did.

    Args:
        expected: The framework's predictions for `features`, shape (n,).

    Raises:
        ParityError: The two differ by more than `MAX_DIFFERENCE` of the largest prediction.
    """
    served = OnnxModel(path).predict(features)
    difference = float(np.abs(served - expected).max())
    allowed = MAX_DIFFERENCE * max(1.0, float(np.abs(expected).max()))
    facts = {"parity_max_abs_difference": difference, "parity_n": len(features)}
    if not difference <= allowed:
        raise ParityError(
            f"ONNX differs from the trained model by {difference:.2g} (allowed {allowed:.2g})",
            where=str(path),
            hint="the package was not published; check the versions of the framework, onnx and onnxruntime",
            **facts,
        )
    return facts


def save_column(path: Path, width: int, column: int) -> None:
    """A model that predicts one of its features as it is."""
    import onnx

    gather = onnx.helper.make_node("Gather", [FEATURES, "column"], ["prediction"], axis=1)
    index = onnx.numpy_helper.from_array(np.array(column, dtype=np.int64), "column")
    save_graph(path, width, [gather], [index])


def save_constant(path: Path, width: int, value: float) -> None:
    """A model that predicts the same number whatever the features are."""
    import onnx

    nodes = [
        onnx.helper.make_node("Shape", [FEATURES], ["rows"], start=0, end=1),
        onnx.helper.make_node("Expand", ["value", "rows"], ["prediction"]),
    ]
    save_graph(path, width, nodes, [onnx.numpy_helper.from_array(np.array([value], dtype=np.float32), "value")])


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Writes the model, the same bytes for the same model. Raises `onnx.checker.ValidationError`."""
    import onnx

    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def save_graph(
    path: Path, width: int, nodes: list[Any], constants: list[Any], *, columns: int | None = None, more: Any = ()
) -> None:
    """Writes a model of these nodes, from `features` (n, width) to `prediction`.

    Args:
        columns: Of the prediction; None: it is (n,).
        more: Further operator sets, as (domain, version).
    """
    import onnx

    number = onnx.TensorProto.FLOAT
    given = onnx.helper.make_tensor_value_info(FEATURES, number, [None, width])
    found = onnx.helper.make_tensor_value_info("prediction", number, [None] if columns is None else [None, columns])
    graph = onnx.helper.make_graph(nodes, "model", [given], [found], constants)
    sets = [onnx.helper.make_opsetid(domain, version) for domain, version in [("", OPSET), *more]]
    save_model(onnx.helper.make_model(graph, opset_imports=sets, ir_version=9), path)
