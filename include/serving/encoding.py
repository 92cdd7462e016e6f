"""JSON for whatever a model answers: strict output, no failure over a NaN or a numpy value."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from include.errors import clip


def encode(value: Any) -> bytes:
    """`value` as JSON. NaN and infinities, which JSON does not know, become null; numpy values become plain ones."""
    return to_json(value, inf_nan_mode="null", fallback=_plain)


def _plain(value: Any) -> Any:
    """What pydantic does not know: numpy scalars and arrays know how to become plain values; anything else is shown."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else clip(value)
