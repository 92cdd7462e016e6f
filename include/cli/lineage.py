"""`windtunnel lineage`: from what something was made, and what it went into, as a tree."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.lineage.graph import Graph, Node, NodeKind, build, find

if TYPE_CHECKING:
    from rich.tree import Tree

_CHILDREN = 12
_STYLES = {NodeKind.MODEL: "bold cyan", NodeKind.DATASET: "bold green", NodeKind.DEPLOYMENT: "magenta"}


def lineage(arguments: argparse.Namespace, out: Output) -> int:
    """Shows the tree in the directions that were asked for; both by default."""
    from include.lineage.records import read_records
    from include.lineage.reference import parse_reference

    reference = parse_reference(arguments.reference)
    chosen_family(reference.family)
    settings = live_settings()
    if arguments.events:
        return _events(settings.store_url, reference.family)
    records = read_records(settings, reference.family)
    graph = build(records)
    roots = find(graph, records, reference)
    up, down = arguments.up or not arguments.down, arguments.down or not arguments.up
    if out.as_json:
        out.document(_document(graph, roots, up, down))
        return 0
    for root in roots:
        for wanted, title, edges in ((up, "made from", graph.up), (down, "went into", graph.down)):
            if wanted:
                from rich.text import Text
                from rich.tree import Tree

                tree = Tree(Text.assemble((f"{title}  ", "dim"), _label(graph.nodes[root])), guide_style="dim")
                _grow(tree, graph, root, edges)
                out.console.print(tree)
                out.line()
    return 0


def _document(graph: Graph, roots: Sequence[str], up: bool, down: bool) -> dict[str, Any]:
    """Flat: nodes with their facts, and edges from origin to result."""
    reached = {
        *(graph.reach(roots, graph.up) if up else []),
        *(graph.reach(roots, graph.down) if down else []),
        *roots,
    }
    nodes = [node for node in graph.nodes.values() if node.id in reached]
    edges = [
        {"from": origin, "to": node.id} for node in nodes for origin in graph.up.get(node.id, []) if origin in reached
    ]
    return {
        "roots": list(roots),
        "nodes": [{"id": node.id, "kind": node.kind.value, **node.facts} for node in nodes],
        "edges": edges,
    }


def _grow(tree: Tree, graph: Graph, root: str, edges: Mapping[str, Sequence[str]]) -> None:
    from rich.text import Text

    below = edges.get(root, [])
    for child in below[-_CHILDREN:]:
        _grow(tree.add(_label(graph.nodes[child])), graph, child, edges)
    if len(below) > _CHILDREN:
        tree.add(Text(f"... and {len(below) - _CHILDREN} earlier ones (--json has all)", style="dim"))
    if not below and graph.nodes[root].kind in {NodeKind.MODEL, NodeKind.DATASET} and edges is graph.down:
        nothing = "never served" if graph.nodes[root].kind is NodeKind.MODEL else "no model was registered on it"
        tree.add(Text(nothing, style="dim"))


def _label(node: Node) -> Any:
    from rich.text import Text

    head = node.id if node.kind in {NodeKind.MODEL, NodeKind.DATASET} else node.kind.value
    return Text.assemble((head, _STYLES.get(node.kind, "bold")), "  ", _said(node))


def _said(node: Node) -> str:
    facts = node.facts
    match node.kind:
        case NodeKind.SOURCE:
            return str(facts["source"])
        case NodeKind.DELIVERY:
            return f"{facts['delivery']} of {facts['source']}, {facts['rows_in']} rows in, {facts['digest'][:12]}"
        case NodeKind.VALIDATION:
            held = ", ".join(f"{reason} {rows}" for reason, rows in facts["reasons"].items())
            suite = f"{facts['suite']} {facts['suite_digest'][:8]}".rstrip()
            return (
                f"suite {suite}: {facts['rows_clean']} clean, {facts['rows_quarantined']} in quarantine"
                f"{f' ({held})' if held else ''}"
            )
        case NodeKind.DATASET:
            rows = ", ".join(f"{name} {count}" for name, count in facts["rows"].items())
            steps = " -> ".join(step["name"] for step in facts["transformations"])
            through = f"\n  by {steps}, code {facts['code_version']}" if steps else ""
            return f"{facts['change']}\n  {rows}; published {_moment(facts['published_at'])}{through}"
        case NodeKind.MODEL:
            kind = "baseline" if facts["baseline"] else f"{facts['verdict']}, run {facts['run']}"
            values = ", ".join(f"{name} {value:g}" for name, value in _numbers(facts["hyperparameters"]).items())
            with_ = f"\n  {values}" if values else ""
            return f"{kind}; data {facts['dataset_version']}, registered {_moment(facts['registered_at'])}{with_}"
        case NodeKind.DEPLOYMENT:
            share = "in the shadow" if facts["shadow"] else f"{facts['share']:.0%} of the traffic"
            ended = f"until {_moment(facts['until'])}" if facts["until"] else "and does now"
            stage = f" ({facts['stage']})" if facts["stage"] else ""
            return f"{facts['role']}{stage}, {share}, from {_moment(facts['since'])} {ended}: {facts['reason']}"


def _numbers(values: Any) -> dict[str, float]:
    found = values if isinstance(values, Mapping) else {}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M}"


def _events(store_url: str, family: str) -> int:
    """The OpenLineage events that were kept, oldest first, one JSON document per line."""
    from include.lineage.emitter import FOLDER
    from include.store.objects import open_store

    store = open_store(store_url)
    for key in store.keys(f"{FOLDER}/{family}/"):
        print(store.get(key).decode())
    return 0
