"""The data-volume monitor: do enough new rows wait at the source to make a retrain worth it?

Rows are new to a champion. Where nothing serves, the first training is the schedule's or a person's to start, and where
the champion learned from a source of its run's own, rows at the spec's sources say nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.data.datasets import open_dataset
from include.data.sources import DECLARED, count_new_rows
from include.release.ledger import Ledger
from include.release.registry import find_version
from include.settings import Settings
from include.spec.models import FamilySpec
from include.store.database import open_database


def new_rows(
    settings: Settings, spec: FamilySpec, source: str | None, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Rows at the source that no dataset holds yet, and whether that asks for a retrain.

    Args:
        environ: Where connections of sources are found; None takes the process's environment.
        source: Where to look, whatever serves: a declared source, or another place; None takes all declared sources.

    Returns:
        `new_rows`, `threshold`, `asks`, `why` and `cause` (see `include.monitoring.governor.Vote`).

    Raises:
        DataError: The source cannot be read.
    """
    place, threshold = source or ", ".join(spec.data.sources), spec.monitoring.min_new_rows
    count = count_new_rows(settings, spec, source, environ=environ)
    why, asks = f"{count} new rows wait at {place}, {threshold} ask for a retrain", count >= threshold
    unrelated = None if source else _unrelated(settings, spec)
    return {
        "monitor": "data_volume",
        "new_rows": count,
        "threshold": threshold,
        "asks": asks and unrelated is None,
        "why": f"{why}; {unrelated}" if unrelated else why,
        "cause": {"source": place, "new_rows": count},
    }


def _unrelated(settings: Settings, spec: FamilySpec) -> str | None:
    """Why rows at the spec's sources are not news to what serves; None where they are."""
    engine = open_database(settings.database_url)
    route = Ledger(engine).route(spec.family)
    if route is None:
        return "but nothing serves yet: the first training starts by schedule or by hand"
    version = find_version(engine, spec.family, route.table.champion.version)
    learned_from = open_dataset(settings, spec.family, version.dataset_version).manifest.source
    if learned_from == DECLARED:
        return None
    return f"but {version.version} learned from {learned_from!r}; name that source in the monitor's form to watch it"
