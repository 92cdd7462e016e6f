"""What the quarantine says of a pair that did not pass: its figures, and what is wrong in words."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONFIDENCE = re.compile(r"^confidence (\d(?:\.\d+)?)")


def told(confidence: float, coherence: float, consensus: float, facts: float, issues: Sequence[str]) -> str:
    """The detail of a quarantined pair."""
    figures = f"confidence {confidence:.2f}, coherence {coherence:.2f}, consensus {consensus:.2f}, facts {facts:.2f}"
    return f"{figures}: {'; '.join(issues)}"


def confidence_in(detail: str) -> float:
    """The confidence that a detail tells; one half, the most doubtful, where it tells none."""
    match = _CONFIDENCE.match(detail)
    return float(match[1]) if match else 0.5
