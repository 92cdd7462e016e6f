"""Trained weights, kept beside the package that was made of them: what other trainings start from, or learn from.

A package answers requests and holds no torch weights, so they are kept as objects of their own:
`weights/<family>/<package digest>.safetensors`, and `.json` beside it, written last, with how the model was built, the
weights' digest and the data that went into them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from include.data.recalls import refuse_recalled
from include.errors import DataError, UserError
from include.release.candidate import champion
from include.release.registry import CHAMPION, find_version
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.fingerprint import file_digest
from include.store.database import open_database
from include.store.objects import ObjectNotFound, ObjectStore, open_store

INIT, TEACHER = "init_from", "teacher"


class WeightsRecord(BaseModel):
    """What is known about trained weights.

    Attributes:
        digest: Of the package that was made of them.
        sha256: Of the file.
        model, hyperparameters: What the family's code built the model from.
        data: The dataset versions that went into them: the one that they were trained on, the newest first, and those
            of the weights that training started from or learned from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    sha256: str
    code: str
    model: dict[str, Any]
    hyperparameters: dict[str, Any]
    data: list[str]


@dataclass(frozen=True)
class Found:
    """Trained weights on this machine, their digest checked."""

    path: Path
    record: WeightsRecord
    version: str | None = None


@dataclass(frozen=True)
class Origins:
    """What a training starts from and learns from, by `init_from` and `teacher`; empty: from nothing of ours."""

    found: Mapping[str, Found] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For the result, the model's record and its lineage."""
        return {
            role: {
                "version": found.version,
                "digest": found.record.digest,
                "weights": found.record.sha256,
                "data": found.record.data,
            }
            for role, found in self.found.items()
        }


def asked_for(spec: FamilySpec) -> dict[str, str]:
    """What the spec names, by role."""
    named = {INIT: spec.trainer.transfer.init_from, TEACHER: spec.trainer.teacher and spec.trainer.teacher.model}
    return {role: name for role, name in named.items() if name}


def resolve(settings: Settings, spec: FamilySpec) -> dict[str, dict[str, str | None]]:
    """`version` (None where a digest was given) and `digest` of each model that the spec names, by role.

    `champion` means another model after every release: what it is now belongs among the inputs of a step. Before the
    first one, and while a baseline serves, it means none.

    Raises:
        UserError: There is no such version.
    """
    found = {role: _resolved(settings, spec.family, name) for role, name in asked_for(spec).items()}
    return {role: entry for role, entry in found.items() if entry is not None}


def _resolved(settings: Settings, family: str, name: str) -> dict[str, str | None] | None:
    if name == CHAMPION:
        serving = champion(settings, family)
        if serving is None:
            return None
        version = find_version(open_database(settings.database_url), family, serving["version"])
        return None if version.is_baseline else {"version": version.version, "digest": version.digest}
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return {"version": None, "digest": name}
    return {"version": name, "digest": find_version(open_database(settings.database_url), family, name).digest}


def fetch_origins(settings: Settings, spec: FamilySpec, inputs: Mapping[str, Any], folder: Path) -> Origins:
    """What a step's training starts from, fetched into `folder` and checked.

    Args:
        inputs: The step's; `origins` is what `resolve` said when the run was planned.

    Raises:
        UserError: The spec names a model that has no weights.
        DataError: The weights are damaged, or hold data that was recalled since.
    """
    named: Mapping[str, Mapping[str, Any]] = inputs["origins"] if "origins" in inputs else resolve(settings, spec)
    found = {}
    for role, entry in named.items():
        record, path = fetch_weights(open_store(settings.store_url), spec.family, entry["digest"], folder)
        refuse_recalled(settings, spec.family, *record.data)
        if record.code != spec.code:
            raise UserError(
                f"the weights were trained by {record.code}, not by {spec.code}", where=role, hint="name another model"
            )
        found[role] = Found(path, record, entry.get("version"))
    return Origins(found)


def keep_weights(store: ObjectStore, family: str, path: Path, record: WeightsRecord) -> None:
    """Keeps the weights of a package; once, however often it is done."""
    if not store.exists(_key(family, record.digest, "json")):
        store.upload(_key(family, record.digest, "safetensors"), path)
        store.put(_key(family, record.digest, "json"), record.model_dump_json(indent=1).encode())


def fetch_weights(store: ObjectStore, family: str, digest: str, folder: Path) -> tuple[WeightsRecord, Path]:
    """The weights of a package, as a file in `folder`.

    Raises:
        UserError: None were kept for it.
        DataError: They are not what was kept.
    """
    try:
        record = WeightsRecord.model_validate_json(store.get(_key(family, digest, "json")))
    except ObjectNotFound as error:
        raise UserError(
            f"there are no trained weights of the model {digest[:12]}...",
            where=error.where,
            hint="a baseline has none; a model that was trained before weights were kept must be trained again",
        ) from error
    path = folder / f"{digest[:20]}.safetensors"
    store.download(_key(family, digest, "safetensors"), path)
    if file_digest(path) != record.sha256:
        raise DataError(
            f"the weights of the model {digest[:12]}... are not what was kept",
            where=store.uri(_key(family, digest, "safetensors")),
            hint="restore the object, or train that model again",
        )
    return record, path


def _key(family: str, digest: str, suffix: str) -> str:
    return f"weights/{family}/{digest}.{suffix}"
