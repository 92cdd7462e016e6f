"""Keeps the quality of dataset versions: measured once, beside the manifest, and shown as a page over all versions."""

from __future__ import annotations

import json
from typing import Any

from include.data.catalogue import VersionEntry
from include.data.datasets import Dataset, list_versions, read_manifest
from include.data.manifest import Manifest
from include.data.quality import Quality, measure
from include.data.quality_alerts import alerts
from include.data.quality_page import render
from include.families.contract import load_data_code
from include.settings import Settings
from include.steps.entry import StepContext
from include.store.objects import ObjectNotFound, ObjectStore


def quality_key(manifest: Manifest) -> str:
    """Where the quality of a version lies."""
    return f"datasets/{manifest.family}/{manifest.version}/quality-{manifest.digest[:12]}.json"


def load_quality(store: ObjectStore, manifest: Manifest) -> Quality | None:
    """The quality of a version; None where it was never measured."""
    try:
        return Quality.model_validate_json(store.get(quality_key(manifest)))
    except ObjectNotFound:
        return None


def load_all(settings: Settings, store: ObjectStore, family: str) -> list[Quality]:
    """Of every version that was measured, the oldest first."""
    manifests = (read_manifest(store, entry) for entry in reversed(list_versions(settings, family)))
    found = (load_quality(store, manifest) for manifest in manifests)
    return [quality for quality in found if quality is not None]


def keep_quality(context: StepContext, manifest: Manifest) -> dict[str, Any]:
    """Measures a version that was not measured yet, tells of alerts, and draws the page.

    Returns:
        `quality_key`: key of the page; `alerts`: sentences.
    """
    document, store, settings = context.document, context.store, context.settings
    spec = document.spec
    entry = _entry(settings, manifest)
    if load_quality(store, manifest) is None:
        slices = load_data_code(spec.code).slices()
        found = measure(Dataset(manifest, store), spec.quality, slices, entry.published_at)
        store.put(quality_key(manifest), json.dumps(found.model_dump(mode="json"), indent=1).encode())
    every = load_all(settings, store, manifest.family)
    until = next(number for number, quality in enumerate(every) if quality.version == manifest.version)
    raised = alerts(every[until], spec.quality, every[until - 1] if until else None)
    for alert in raised:
        print(f"quality: {alert.said}; {alert.advice}", flush=True)
    key = f"{document.output}/docs/quality.html"
    store.put(key, render(manifest.family, every[: until + 1], raised, spec.quality).encode())
    return {"quality_key": key, "alerts": [alert.said for alert in raised]}


def _entry(settings: Settings, manifest: Manifest) -> VersionEntry:
    return next(entry for entry in list_versions(settings, manifest.family) if entry.version == manifest.version)
