"""scikit-learn's histogram-based boosting as ONNX: skl2onnx 1.20 gives its trees attributes that onnx refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import UserError
from include.frameworks.onnx_models import save_graph

_ML = ("ai.onnx.ml", 3)
#: What the sum of the trees goes through, by the link of the loss (sklearn._loss.link).
_LINKS = {"IdentityLink": None, "LogLink": "Exp", "LogitLink": "Sigmoid"}


def save_trees(estimator: Any, width: int, path: Any) -> None:
    """Writes a fitted regressor or classifier of two classes: `features` (n, width) -> prediction, or probability.

    Raises:
        UserError: It has more than two classes, or splits by categories.
    """
    import onnx

    link = type(estimator._loss.link).__name__
    if link not in _LINKS or any(len(trees) != 1 for trees in estimator._predictors):
        raise UserError(f"{type(estimator).__name__} with {link} cannot be exported to ONNX", where="model")
    nodes = [(number, trees[0].nodes) for number, trees in enumerate(estimator._predictors)]
    attributes = _attributes(nodes)
    attributes["base_values"] = [float(np.ravel(estimator._baseline_prediction)[0])]
    raw = onnx.helper.make_node(
        "TreeEnsembleRegressor", ["features"], ["raw"], domain=_ML[0], n_targets=1, **attributes
    )
    then = _LINKS[link] or "Identity"
    save_graph(path, width, [raw, onnx.helper.make_node(then, ["raw"], ["prediction"])], [], columns=1, more=[_ML])


def is_boosted(estimator: Any) -> bool:
    """Whether `save_trees` is for this kind of estimator."""
    return type(estimator).__name__.startswith("HistGradientBoosting")


def _attributes(trees: list[tuple[int, NDArray[Any]]]) -> dict[str, Any]:
    """Nodes and leaves of all trees, as the operator takes them."""
    numbers = np.concatenate([np.full(len(nodes), number) for number, nodes in trees])
    places = np.concatenate([np.arange(len(nodes)) for _, nodes in trees])
    every = np.concatenate([nodes for _, nodes in trees])
    leaf = every["is_leaf"].astype(bool)
    if every["is_categorical"][~leaf].any():
        raise UserError("trees that split by categories cannot be exported to ONNX", where="model")

    def whole(values: NDArray[Any]) -> list[int]:
        return [int(value) for value in values]

    return {
        "nodes_treeids": whole(numbers),
        "nodes_nodeids": whole(places),
        "nodes_featureids": whole(np.where(leaf, 0, every["feature_idx"])),
        "nodes_modes": ["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf],
        "nodes_values": [float(value) for value in np.where(leaf, 0.0, _rounded_down(every["num_threshold"]))],
        "nodes_truenodeids": whole(np.where(leaf, 0, every["left"])),
        "nodes_falsenodeids": whole(np.where(leaf, 0, every["right"])),
        "nodes_missing_value_tracks_true": whole(np.where(leaf, 0, every["missing_go_to_left"])),
        "target_treeids": whole(numbers[leaf]),
        "target_nodeids": whole(places[leaf]),
        "target_ids": [0] * int(leaf.sum()),
        "target_weights": [float(value) for value in every["value"][leaf]],
    }


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest single-precision numbers that are not above: the same features are at most as large."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
