"""A gate as a picture: the measured interval, and the edge that it had to stay on the right side of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.dossier.html import Html

_WIDTH, _HEIGHT, _PAD = 140, 18, 6
_UPWARDS = frozenset({"gt", "gte"})


def edge_of(gate: Mapping[str, Any]) -> float | None:
    """The value (or difference) at which the gate's answer turns; None where it asks for equality or did not apply."""
    if gate.get("operator") not in _UPWARDS | {"lt", "lte"} or gate.get("value") is None:
        return None
    at, margin = float(gate.get("threshold") or 0.0), float(gate.get("margin") or 0.0)
    return at - margin if gate["operator"] in _UPWARDS else at + margin


def interval_plot(gate: Mapping[str, Any]) -> Html:
    """The interval as a line with its value, the edge dashed. The numbers stand beside it, so it is hidden from readers
    of text."""
    edge = edge_of(gate)
    if edge is None:
        return Html("")
    low, value, high = (float(gate[name]) for name in ("low", "value", "high"))
    first, last = min(low, edge), max(high, edge)
    width = (last - first) or 1.0

    def x(at: float) -> str:
        return f"{_PAD + (at - first) / width * (_WIDTH - 2 * _PAD):.1f}"

    middle = _HEIGHT / 2
    return Html(
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">'
        f'<line class="edge" x1="{x(edge)}" x2="{x(edge)}" y1="0" y2="{_HEIGHT}"/>'
        f'<line class="span" x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="at" cx="{x(value)}" cy="{middle}" r="4"/></svg>'
    )
