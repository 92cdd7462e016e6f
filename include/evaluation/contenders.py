"""Who is evaluated: the candidate, and what it is compared with. All of them are sealed packages, named by digest.

Baselines and the untrained model are exported from the dataset once per (dataset, settings, code) and published like
any other package: the bootstrap may have to serve one of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.errors import UserError
from include.evaluation.adjust import UNTRAINED
from include.evaluation.gates import CHAMPION
from include.families.contract import DatasetView, Family
from include.serving.package import PACKAGE_FILE, fetch, package_prefix, publish, seal
from include.steps.entry import StepContext
from include.steps.fingerprint import fingerprint
from include.store.scratch import scratch_folder

CANDIDATE = "candidate"


def contenders(context: StepContext, family: Family, dataset: DatasetView) -> dict[str, str]:
    """Name -> package digest: `candidate`, `champion` where one serves, `zero_shot` where asked, and the baselines."""
    inputs = context.document.inputs
    digests = {CANDIDATE: str(inputs["candidate"])}
    if inputs.get("champion"):
        digests[CHAMPION] = str(inputs["champion"]["digest"])
    for name in inputs.get("baselines") or ():
        if name not in family.baselines():
            raise UserError(
                f"there is no baseline {name!r}",
                where="evaluation.gates",
                hint=f"the family has: {', '.join(family.baselines()) or '(none)'}",
            )
        digests[name] = _reference(context, family, dataset, name)
    if inputs.get("zero_shot"):
        digests[UNTRAINED] = _reference(context, family, dataset, UNTRAINED)
    return digests


def fetch_all(context: StepContext, digests: Mapping[str, str]) -> dict[str, Path]:
    """Digest -> local folder of the verified package, each fetched once."""
    cache = context.settings.home / "cache" / "packages"
    family = context.document.family
    return {digest: fetch(context.store, family, digest, cache) for digest in dict.fromkeys(digests.values())}


def _reference(context: StepContext, family: Family, dataset: DatasetView, name: str) -> str:
    document, store = context.document, context.store
    spec = document.model_spec
    used = spec.model_dump(mode="json", include={"model", "hyperparameters", "code"})
    made_of = fingerprint(name=name, spec=used, dataset=dataset.digest, code=document.code_version)
    pointer = f"evaluations/{spec.family}/{dataset.digest[:20]}/references/{name}-{made_of[:20]}.json"
    if store.exists(pointer):
        digest = str(json.loads(store.get(pointer))["digest"])
        if store.exists(f"{package_prefix(spec.family, digest)}/{PACKAGE_FILE}"):
            return digest
    with scratch_folder("reference") as folder:
        facts = _export(family, name, context, dataset, folder)
        package = seal(folder, spec.family, spec.code, {**facts, "reference": name})
        publish(store, folder)
    store.put(pointer, json.dumps({"digest": package.digest}).encode())
    return package.digest


def _export(family: Family, name: str, context: StepContext, dataset: DatasetView, folder: Path) -> dict[str, Any]:
    spec = context.document.model_spec
    if name == UNTRAINED:
        return family.export(spec, dataset, spec.hyperparameters, None, folder)
    return family.export_baseline(name, spec, dataset, folder)
