"""The model that is measured: the family's encoder before training, on the sample as the pipeline's steps publish it.

Speed does not depend on what the weights have learned, so no benchmark waits for a training run. Everything lies in a
Windtunnel of its own under `.windtunnel/benchmarks`, and is made once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from include.families.contract import load_code
from include.release.ledger import Ledger
from include.release.routing import Role, RoutingTable, Variant
from include.serving.package import fetch, publish, seal
from include.settings import PROJECT_ROOT, Settings
from include.spec.load import load_family
from include.spec.models import FamilySpec
from include.steps.document import make_document
from include.steps.entry import read_json
from include.steps.fingerprint import code_version
from include.store.database import open_database
from include.store.objects import ObjectStore, open_store

FAMILY = "compliance_qa"
ENCODER, BM25 = "encoder", "bm25"


@dataclass(frozen=True)
class Prepared:
    """A published dataset version and a model package that serves it.

    Attributes:
        model: `encoder` (the dual encoder before training, fused with BM25) or the name of a baseline.
    """

    settings: Settings
    spec: FamilySpec
    dataset_version: str
    model: str
    digest: str
    folder: Path
    questions: list[str]


def prepare(model: str = ENCODER) -> Prepared:
    """The dataset and the package, made where they are not there yet."""
    settings = _settings()
    store = open_store(settings.store_url)
    spec = load_family(FAMILY)
    version = _dataset(settings, store, spec)
    digest = _package(settings, store, spec, version, model)
    folder = fetch(store, FAMILY, digest, settings.home / "cache" / "packages")
    return Prepared(settings, spec, version, model, digest, folder, _questions(settings, spec, version))


@lru_cache(maxsize=1)
def _settings() -> Settings:
    """Settings of the benchmarks' own Windtunnel; read once, because `prepare` puts them into the environment."""
    return Settings.from_env({"WINDTUNNEL_HOME": str(Settings.from_env().home / "benchmarks")})


def route(prepared: Prepared) -> None:
    """Makes the package the champion of its family."""
    ledger = Ledger(open_database(prepared.settings.database_url))
    table = RoutingTable(champion=Variant(role=Role.CHAMPION, version=prepared.model, digest=prepared.digest))
    current = ledger.route(FAMILY)
    if current is None or current.table != table:
        expected = current.generation if current else 0
        ledger.swap_route(FAMILY, expected, table, reason="benchmark", actor="benchmarks", at=datetime.now(UTC))


def environment(settings: Settings) -> dict[str, str]:
    """Environment of the processes that are measured."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **settings.to_env(), "PYTHONPATH": str(PROJECT_ROOT), "PATH": path, "HF_HUB_OFFLINE": "1"}


def _dataset(settings: Settings, store: ObjectStore, spec: FamilySpec) -> str:
    window = {"run": "benchmarks", "source": "sample", "since": None, "until": None}
    ingested = _step(settings, store, spec, "ingest", window, ("data",))
    checked = _step(settings, store, spec, "validate", {"deliveries": ingested["deliveries"]}, ("data",))
    inputs = {"checked": checked["checked"], "source": "sample"}
    return str(_step(settings, store, spec, "publish", inputs, ("data", "split"))["dataset_version"])


def _step(
    settings: Settings, store: ObjectStore, spec: FamilySpec, step: str, inputs: dict[str, Any], parts: tuple[str, ...]
) -> dict[str, Any]:
    """The outputs of a data step, run as the pipeline runs it."""
    document = make_document(
        step, "benchmarks", spec, inputs, spec_parts=parts, code_version=code_version(), created_at=datetime.now(UTC)
    )
    store.put(document.document_key, document.model_dump_json().encode())
    command = [sys.executable, "-m", "include.data", step, "--run", store.uri(document.document_key)]
    subprocess.run(command, cwd=PROJECT_ROOT, env=environment(settings), check=True, stdout=sys.stderr)
    outputs: dict[str, Any] = read_json(store, document.result_key)["outputs"]
    return outputs


def _package(settings: Settings, store: ObjectStore, spec: FamilySpec, version: str, model: str) -> str:
    """Digest of the model's package; a note keeps it from being exported again."""
    from include.data.datasets import open_dataset

    note = f"benchmarks/{version}/{code_version()}-{model}.digest"
    if store.exists(note):
        return store.get(note).decode()
    folder = settings.home / "export"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ.update(settings.to_env())  # the family's code keeps its embeddings in the store of the settings
    dataset = open_dataset(settings, FAMILY, version)
    code = load_code(spec.code)
    if model == ENCODER:
        facts = code.export(spec, dataset, spec.hyperparameters, None, folder)
    else:
        facts = code.export_baseline(model, spec, dataset, folder)
    package = seal(folder, FAMILY, spec.code, facts)
    publish(store, folder)
    store.put(note, package.digest.encode())
    return package.digest


def _questions(settings: Settings, spec: FamilySpec, version: str) -> list[str]:
    from include.data.datasets import open_dataset

    dataset = open_dataset(settings, FAMILY, version)
    requests = load_code(spec.code).requests(dataset, "test")
    return [str(inputs["question"]) for _, inputs, _ in requests]
