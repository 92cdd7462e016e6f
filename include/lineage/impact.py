"""What a recall means: which dataset versions and models hold the data, who answers now, and where to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from include.data.recalls import Recall, touches
from include.lineage.records import Records
from include.release.rollback import first_that_loads, served_fully
from include.release.routing import RoutingTable
from include.settings import Settings
from include.store.objects import open_store


@dataclass(frozen=True)
class Affected:
    """A model version that was trained on recalled data.

    Attributes:
        share: Of the traffic that it answers now.
        role: `champion` or `challenger` now; empty where it is not in the routing table.
        served: Whether it ever answered.
    """

    version: str
    dataset_version: str
    baseline: bool
    role: str
    share: float
    shadow: bool
    served: bool


@dataclass(frozen=True)
class Impact:
    """What a recall means.

    Attributes:
        dataset_versions: Those that hold recalled data, the oldest first.
        models: Those trained on them, the oldest first.
        target: The version that traffic can go back to; None where there is none, or no need.
        passed_over: Why other versions cannot take over.
    """

    recall: Recall
    dataset_versions: Sequence[str]
    models: Sequence[Affected]
    target: str | None
    passed_over: Sequence[str]

    @property
    def serving(self) -> list[Affected]:
        """Affected models in the routing table, in the shadow as well: a rollout would take them further."""
        return [model for model in self.models if model.role]

    @property
    def share(self) -> float:
        """Share of the traffic that models with recalled data answer now."""
        return sum(model.share for model in self.models)


def assess(settings: Settings, records: Records, recall: Recall, active: Sequence[Recall]) -> Impact:
    """The impact of `recall`; traffic does not go back to what any of the `active` recalls touches either."""
    store = open_store(settings.store_url)
    manifests = {dataset.manifest.version: dataset.manifest for dataset in records.datasets}
    versions = [version for version, manifest in manifests.items() if touches(store, recall, manifest)]
    tainted = {
        version
        for version, manifest in manifests.items()
        if version in versions or any(touches(store, other, manifest) for other in active)
    }
    table = records.routes[-1].table if records.routes else None
    served = {
        variant.version
        for route in records.routes
        for variant in route.table.variants
        if route.table.shares[variant.version] > 0
    }
    models = [
        Affected(
            version=model.version,
            dataset_version=model.dataset_version,
            baseline=model.is_baseline,
            role=_role(table, model.version),
            share=table.shares.get(model.version, 0.0) if table else 0.0,
            shadow=table is not None and table.shadow and _role(table, model.version) == "challenger",
            served=model.version in served,
        )
        for model in records.models
        if not set(versions).isdisjoint(model.data)
    ]
    target: str | None = None
    passed_over: list[str] = []
    if any(model.role for model in models):
        bad = {model.version for model in records.models if not tainted.isdisjoint(model.data)}
        target, passed_over = _target(settings, records, bad)
    return Impact(recall, versions, models, target, passed_over)


def rollback_command(family: str, target: str, recall: Recall) -> str:
    """The one command that takes traffic away from recalled data."""
    return f"windtunnel rollback {family} --to {target} --reason 'recall of {family}:data@{recall.version}'"


def document(family: str, impact: Impact) -> dict[str, Any]:
    """The impact for programs."""
    return {
        "recall": {**impact.recall.model_dump(mode="json"), "id": impact.recall.id, "what": impact.recall.words()},
        "dataset_versions": list(impact.dataset_versions),
        "models": [vars(model) for model in impact.models],
        "live_share": impact.share,
        "serving": [model.version for model in impact.serving],
        "target": impact.target,
        "passed_over": list(impact.passed_over),
        "command": rollback_command(family, impact.target, impact.recall) if impact.target else None,
    }


def _target(settings: Settings, records: Records, bad: set[str]) -> tuple[str | None, list[str]]:
    """The version that served everything last, still loads, and was not trained on recalled data."""
    served = served_fully(reversed(records.routes), without="")
    passed_over = [f"{variant.version} holds recalled data" for variant in served if variant.version in bad]
    clean = [variant for variant in served if variant.version not in bad]
    found, broken = first_that_loads(settings, records.family, clean)
    return (found.version if found else None), [*passed_over, *broken]


def _role(table: RoutingTable | None, version: str) -> str:
    variants = table.variants if table else ()
    return next((variant.role.value for variant in variants if variant.version == version), "")
