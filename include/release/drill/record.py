"""Drills in production's ledger: what was tried and how it ended, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from include.families.contract import load_code
from include.release.drill.faults import Fault
from include.release.drill.hold import hold
from include.release.drill.plan import next_fault
from include.release.ledger import Entry, Event, Ledger
from include.release.registry import find_version
from include.serving.traffic import Example
from include.settings import Settings
from include.spec.models import FamilySpec
from include.store.database import open_database

_DRILLED = frozenset({Event.DRILLED})

_Record = dict[str, Any]


def drill(settings: Settings, spec: FamilySpec, *, name: str, fault: Fault | None, live: bool) -> _Record:
    """Holds a drill with the champion's own test questions. See `hold` for what it returns and raises.

    Args:
        fault: None: that whose turn it is.
    """
    chosen = fault or turn(settings, spec.family)
    return hold(settings, spec, chosen, champion_examples(settings, spec), name=name, live=live)


def keep(settings: Settings, family: str, record: Mapping[str, Any], *, actor: str, at: datetime) -> None:
    """Adds a drill to the ledger, once by its name."""
    key = f"drilled:{record['drill']}"
    Ledger(open_database(settings.database_url)).append(
        family, Event.DRILLED, key=key, actor=actor, at=at, model_version=record["champion"], record=record
    )


def last_drill(settings: Settings, family: str) -> Entry | None:
    """The newest drill of the family; None where there was none."""
    found = Ledger(open_database(settings.database_url)).entries(family, _DRILLED, limit=1)
    return found[0] if found else None


def turn(settings: Settings, family: str) -> Fault:
    """The fault that the next drill tries, unless a person chooses."""
    done = Ledger(open_database(settings.database_url)).entries(family, _DRILLED, limit=1)
    return next_fault([entry.record["fault"] for entry in done])


def champion_examples(settings: Settings, spec: FamilySpec) -> list[Example]:
    """Labelled requests: the test split of the dataset that the champion was judged on; none where nothing serves.

    Raises:
        UserError: The champion or its dataset version is not known any more.
    """
    from include.data.datasets import open_dataset

    engine = open_database(settings.database_url)
    route = Ledger(engine).route(spec.family)
    if route is None:
        return []
    version = find_version(engine, spec.family, route.table.champion.version)
    dataset = open_dataset(settings, spec.family, version.dataset_version)
    requests = load_code(spec.code).requests(dataset, "test")
    return [Example(dict(inputs), dict(truth)) for _, inputs, truth in requests]
