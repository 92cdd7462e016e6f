"""The `fit` step: trains over the spec's devices, exports the model, proves the export, and publishes the package.

Killed at any point and started again, it goes on: training from the newest checkpoint, export from the best weights.
The same work gives the same package digest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from include.data.datasets import open_dataset
from include.data.recalls import refuse_recalled
from include.families.contract import load_code
from include.release.registry import data_of
from include.serving.package import publish, seal
from include.spec.models import FamilySpec
from include.spec.training import Framework
from include.steps.entry import StepContext, read_json
from include.steps.fingerprint import file_digest
from include.store.objects import ObjectNotFound
from include.training.checkpoints import Checkpoints, place
from include.training.gang import Gang
from include.training.lost import LostWork
from include.training.node import Node
from include.training.plan import adjusted_facts, adjusted_work, split_overrides, threads_per_process
from include.training.ranks import run_ranks
from include.training.record import events_file
from include.training.tracking import EventReader, Tracker
from include.training.trainer import SUMMARY, Work, load_trainer
from include.training.weights import Origins, WeightsRecord, fetch_origins, keep_weights


def fit(context: StepContext) -> dict[str, Any]:
    """Inputs: `dataset_version`, `dataset_digest`, `hyperparameters`, `seed`; `origins` (`include.training.weights`)
    where the spec's trainer names a model to start from or to learn from.

    Outputs: `digest` of the model package, validation `metrics`, `samples_per_second`, `seconds_training`,
    `resumed_from_step` (None: from the start), `work_lost` (`tries`, `steps` and `seconds` that had to be done again,
    over all tries), `origins` (the models that it started from or learned from, by role), `adjusted` (what was trained
    with in place of what was asked for, because it ran out of memory or diverged) and `mlflow_run` (None where MLflow
    failed).
    """
    inputs = context.document.inputs
    Node.from_env().check(context.document.model_spec.trainer.nodes)
    refuse_recalled(context.settings, context.document.family, inputs["dataset_version"])
    asked, values = split_overrides(context.document.model_spec, inputs["hyperparameters"])
    adjustment = context.document.adjustment
    spec, hyperparameters = adjusted_work(asked, values, adjustment)
    adjusted = adjusted_facts(asked, values, adjustment)
    scratch = _fresh(context.settings.home / "scratch" / context.document.fingerprint[:20])
    try:
        with Tracker(context.settings.mlflow_url, context.document, values, adjusted) as tracker:
            training = _trained(context, spec, hyperparameters, scratch, tracker)
            digest, facts = _exported(context, spec, hyperparameters, scratch, training["origins"])
            last = training["steps"] + 1
            final = {f"best_{name}": value for name, value in training["metrics"].items()}
            final |= {f"work_lost_{name}": value for name, value in training["work_lost"].items()}
            final |= _cost_metrics(context.cost())
            tracker.metrics({"step": last, "at": context.document.created_at.timestamp(), "metrics": final})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for prefix in {place(context.document), context.document.output}:  # and of what diverged before
        Checkpoints(context.store, prefix).drop_resumable()
    return {
        "digest": digest,
        "metrics": training["metrics"],
        "best_epoch": training["best_epoch"] + 1,
        "steps": training["steps"],
        "samples_per_second": round(training["samples"] / training["seconds"], 3) if training["seconds"] else 0.0,
        "seconds_training": round(training["seconds"], 3),
        "resumed_from_step": training["resumed_from_step"],
        "work_lost": training["work_lost"],
        "origins": training["origins"],
        "adjusted": adjusted,
        "export": facts,
        "mlflow_run": tracker.run_id,
    }


def _cost_metrics(cost: Mapping[str, Any]) -> dict[str, float]:
    """For MLflow, which takes numbers only: money is left out where it is not known."""
    seconds = {f"cost_{name}": value for name, value in cost[cost["basis"]].items()}
    return seconds if cost["money"] is None else {**seconds, f"cost_{cost['currency'].lower()}": cost["money"]}


def help_fit(context: StepContext) -> dict[str, Any]:
    """The part of a node that is not the first: its processes train with the others, and nothing is written."""
    asked, values = split_overrides(context.document.model_spec, context.document.inputs["hyperparameters"])
    spec, hyperparameters = adjusted_work(asked, values, context.document.adjustment)
    node = Node.from_env()
    node.check(spec.trainer.nodes)
    if context.store.exists(_summary_key(context)):
        print("fit: training was done by an earlier attempt", flush=True)
        return {}
    scratch = _fresh(context.settings.home / "scratch" / f"{context.document.fingerprint[:20]}-node-{node.rank}")
    try:
        load_trainer(spec).preload(spec)
        found = Checkpoints(context.store, place(context.document)).newest(scratch)
        print(f"fit: node {node.rank} of {node.nodes} goes on from step {found[0] if found else 0}", flush=True)
        _run(context, spec, hyperparameters, scratch, found, scratch / "unused.mark", "")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {}


def _trained(
    context: StepContext,
    spec: FamilySpec,
    hyperparameters: dict[str, Any],
    scratch: Path,
    tracker: Tracker,
) -> dict[str, Any]:
    """The summary of the training, which is done unless an earlier attempt did it."""
    key = _summary_key(context)
    try:
        summary: dict[str, Any] = read_json(context.store, key)
        print("fit: training was done by an earlier attempt", flush=True)
        return summary
    except ObjectNotFound:
        pass
    load_trainer(spec).preload(spec)
    found = Checkpoints(context.store, place(context.document)).newest(scratch)
    name = f"{context.document.fingerprint[:20]}.mark"  # beside the scratch folder, which each try makes anew
    lost = LostWork(context.store, context.document.output, context.settings.home / "scratch" / name)
    if found:
        print(f"fit: going on from step {found[0]}", flush=True)
    attempt = lost.begin(found[0] if found else 0)
    events = EventReader(events_file(scratch))

    def pass_on() -> None:
        tracker.begin()  # it is called while the processes train: they are forked
        for event in events.read():
            tracker.metrics(event)

    try:
        origins = _run(context, spec, hyperparameters, scratch, found, lost.path, attempt, pass_on)
    finally:
        pass_on()
    summary = {
        **json.loads((scratch / SUMMARY).read_text()),
        "resumed_from_step": found[0] if found else None,
        "work_lost": lost.total(),
        "origins": origins.facts(),
    }
    context.store.put(key, json.dumps(summary, indent=1, allow_nan=False).encode())
    lost.forget()
    return summary


def _run(
    context: StepContext,
    spec: FamilySpec,
    hyperparameters: dict[str, Any],
    scratch: Path,
    found: tuple[int, Path] | None,
    marks: Path,
    attempt: str,
    idle: Callable[[], None] = lambda: None,
) -> Origins:
    """This node's processes, to the end of the training; what they started from."""
    document, node, devices = context.document, Node.from_env(), spec.trainer.devices
    gang = None
    if node.nodes > 1:
        facts = {"work": document.fingerprint, "step": found[0] if found else 0}
        gang = Gang(node, context.store, document.output, 60.0 * spec.resources.pending_minutes, facts)
    work = Work(
        document=document,
        settings=context.settings,
        spec=spec,
        hyperparameters=hyperparameters,
        seed=int(document.inputs["seed"]),
        resume=found[1] if found else None,
        marks=marks,
        attempt=attempt,
        origins=fetch_origins(context.settings, spec, document.inputs, scratch),
    )
    run_ranks(work, devices, threads_per_process(devices), scratch, idle, gang)
    return work.origins


def _summary_key(context: StepContext) -> str:
    return f"{place(context.document)}/training.json"


def _exported(
    context: StepContext, spec: FamilySpec, hyperparameters: dict[str, Any], scratch: Path, origins: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Digest of the published package, and the family's facts about it; the weights are kept for other trainings."""
    context.progress(0, 1, "export", force=True)
    weights = Checkpoints(context.store, place(context.document)).best(scratch)
    dataset = open_dataset(context.settings, spec.family, context.document.inputs["dataset_version"], spec.split.fold)
    folder = _fresh(scratch / "package")
    facts = load_code(spec.code).export(spec, dataset, hyperparameters, weights, folder)
    package = seal(folder, spec.family, spec.code, facts)
    publish(context.store, folder)
    if spec.trainer.framework is Framework.LIGHTNING:  # only it can start from other weights
        _keep(context, spec, hyperparameters, weights, package.digest, data_of(dataset.version, origins))
    context.progress(1, 1, "export", force=True, digest=package.digest[:12])
    return package.digest, facts


def _keep(
    context: StepContext,
    spec: FamilySpec,
    hyperparameters: dict[str, Any],
    weights: Path,
    digest: str,
    data: list[str],
) -> None:
    record = WeightsRecord(
        digest=digest,
        sha256=file_digest(weights),
        code=spec.code,
        model=spec.model,
        hyperparameters=hyperparameters,
        data=data,
    )
    keep_weights(context.store, spec.family, weights, record)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
