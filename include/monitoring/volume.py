"""The data-volume monitor: do enough new rows wait at the source to make a retrain worth it?"""

from __future__ import annotations

from typing import Any

from include.data.sources import count_new_rows
from include.settings import Settings
from include.spec.models import FamilySpec


def new_rows(settings: Settings, spec: FamilySpec, source: str | None) -> dict[str, Any]:
    """Rows at the source that no dataset holds yet, and whether that asks for a retrain.

    Args:
        source: Where to look; None takes the spec's source.

    Returns:
        `new_rows`, `threshold`, `asks`, `why` and `cause` (see `include.monitoring.governor.Vote`).

    Raises:
        DataError: The source cannot be read.
    """
    place = source or spec.data.source
    count, threshold = count_new_rows(settings, spec, place), spec.monitoring.min_new_rows
    return {
        "monitor": "data_volume",
        "new_rows": count,
        "threshold": threshold,
        "asks": count >= threshold,
        "why": f"{count} new rows wait at {place}, {threshold} ask for a retrain",
        "cause": {"source": place, "new_rows": count},
    }
