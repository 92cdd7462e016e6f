"""The lineage of a family as a graph, and the walks that answer "from what" and "into what". Pure.

    source -> delivery -> validation -> dataset version -> model version -> deployment

What a dataset's rows went through stands with the dataset. A delivery is known by its content: the same name with other
content is another delivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from include.data.records import CheckedDelivery
from include.errors import UserError
from include.lineage.records import Dataset, Period, Records, periods
from include.lineage.reference import Kind, Reference
from include.release.registry import ModelVersion

_LISTED = 12


class NodeKind(str, Enum):
    """What a node stands for."""

    SOURCE = "source"
    DELIVERY = "delivery"
    VALIDATION = "validation"
    DATASET = "dataset"
    MODEL = "model"
    DEPLOYMENT = "deployment"


@dataclass(frozen=True)
class Node:
    """A thing; `facts` are JSON-serialisable but for dates."""

    id: str
    kind: NodeKind
    facts: Mapping[str, Any]


@dataclass
class Graph:
    """Nodes by id, and edges in both directions, each in the order in which they were added."""

    nodes: dict[str, Node] = field(default_factory=dict)
    up: dict[str, list[str]] = field(default_factory=dict)
    down: dict[str, list[str]] = field(default_factory=dict)

    def add(self, node: Node, *origins: str) -> str:
        """Adds a node that came from `origins`; a node that is there gets further origins."""
        self.nodes.setdefault(node.id, node)
        for origin in origins:
            if origin not in self.up.setdefault(node.id, []):
                self.up[node.id].append(origin)
                self.down.setdefault(origin, []).append(node.id)
        return node.id

    def reach(self, roots: Iterable[str], edges: Mapping[str, Sequence[str]]) -> list[str]:
        """`roots` and everything that `edges` lead to from there, each once."""
        found: dict[str, None] = {}
        waiting = list(roots)
        while waiting:
            node = waiting.pop(0)
            if node not in found:
                found[node] = None
                waiting += edges.get(node, [])
        return list(found)


def build(records: Records) -> Graph:
    """The graph of everything that was published, registered and served."""
    graph = Graph()
    datasets = {}
    for dataset in records.datasets:
        datasets[dataset.manifest.version] = graph.add(
            _dataset(records.family, dataset),
            *(_validation(graph, records.family, dataset, delivery) for delivery in dataset.manifest.deliveries),
        )
    models = {}
    for model in records.models:
        origin = datasets.get(model.dataset_version)
        models[model.version] = graph.add(_model(records.family, model), *([origin] if origin else []))
    for period in periods(records.routes):
        origin = models.get(period.version)
        graph.add(_deployment(records.family, period), *([origin] if origin else []))
    return graph


def find(graph: Graph, records: Records, reference: Reference) -> list[str]:
    """Ids of what `reference` names: one node, or a delivery's every content.

    Raises:
        UserError: There is no such thing; the hint lists what there is.
    """
    family, name = reference.family, reference.name
    if reference.kind is Kind.DELIVERY:
        nodes = [node for node in graph.nodes.values() if node.kind is NodeKind.DELIVERY]
        found = [node.id for node in nodes if name in node.facts["names"]]
        return _found(found, f"no dataset version of {family} holds a delivery {name!r}", _names(nodes, "delivery"))
    if reference.kind is Kind.DATA:
        versions = [dataset.manifest.version for dataset in records.datasets]
        wanted = name or (versions[-1] if versions else None)
        found = [f"{family}:data@{wanted}"] if wanted in versions else []
        return _found(found, _missing(f"{family} has no dataset version", name), versions)
    known = [model.version for model in records.models]
    serving = records.routes[-1].table.champion.version if records.routes else None
    wanted = name or serving
    found = [f"{family}@{wanted}"] if wanted in known else []
    message = _missing(f"{family} has no model version", name) if name else f"nothing serves in {family}"
    if not found and any(dataset.manifest.version == name for dataset in records.datasets):
        message += f"; there is a dataset version of that number: {family}:data@{name}"
    return _found(found, message, known)


def _validation(graph: Graph, family: str, dataset: Dataset, delivery: CheckedDelivery) -> str:
    source = delivery.source
    origin = graph.add(Node(f"{family}:source@{source}", NodeKind.SOURCE, {"source": source}))
    name = f"{family}:delivery@{delivery.delivery}"
    brought = graph.add(
        Node(
            f"{name}#{source}/{delivery.digest[:12]}",
            NodeKind.DELIVERY,
            {
                "delivery": delivery.delivery,
                "names": delivery.names,
                "source": source,
                "delivered_on": delivery.delivered_on,
                "digest": delivery.digest,
                "rows_in": delivery.rows_in,
            },
        ),
        origin,
    )
    passed = {
        "suite": delivery.suite or dataset.manifest.suite,
        "suite_digest": delivery.suite_digest,
        "check_key": delivery.check_key,
        "check_digest": delivery.check_digest,
        "rows_clean": delivery.rows_clean,
        "rows_quarantined": delivery.rows_quarantined,
        "reasons": delivery.reasons,
        "quarantine_key": delivery.quarantine_key,
    }
    return graph.add(Node(f"{family}:check@{delivery.check_key}", NodeKind.VALIDATION, passed), brought)


def _dataset(family: str, dataset: Dataset) -> Node:
    manifest = dataset.manifest
    facts = {
        "version": manifest.version,
        "digest": manifest.digest,
        "published_at": dataset.entry.published_at,
        "parent": manifest.parent,
        "change": f"{manifest.change.level.value}: {manifest.change.reason}",
        "rows": {name: table.rows for name, table in manifest.tables.items()},
        "split": manifest.split,
        "transformations": [step.model_dump(mode="json") for step in manifest.transformations],
        "software": manifest.software,
        "code_version": manifest.code_version,
        "manifest_key": dataset.entry.manifest_key,
    }
    return Node(f"{family}:data@{manifest.version}", NodeKind.DATASET, facts)


def _model(family: str, model: ModelVersion) -> Node:
    taken = (
        "run",
        "creator",
        "code_version",
        "hyperparameters",
        "seed",
        "origins",
        "metrics",
        "decision",
        "report_key",
    )
    facts = {
        "version": model.version,
        "digest": model.digest,
        "verdict": model.verdict,
        "releasable": model.releasable,
        "baseline": model.is_baseline,
        "dataset_version": model.dataset_version,
        "mlflow_version": model.mlflow_version,
        "registered_at": model.registered_at,
        **{name: model.record.get(name) for name in taken},
    }
    return Node(f"{family}@{model.version}", NodeKind.MODEL, facts)


def _deployment(family: str, period: Period) -> Node:
    return Node(f"{family}@{period.version}/generation-{period.generation}", NodeKind.DEPLOYMENT, vars(period))


def _found(found: list[str], message: str, known: Sequence[str]) -> list[str]:
    if found:
        return found
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    raise UserError(message, hint=f"there are: {', '.join(known[-_LISTED:])}{more}" if known else "there is none yet")


def _names(nodes: Iterable[Node], fact: str) -> list[str]:
    return list(dict.fromkeys(node.facts[fact] for node in nodes))


def _missing(text: str, name: str | None) -> str:
    return f"{text} {name!r}" if name else text
