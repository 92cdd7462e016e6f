"""What the training pipeline asks of the release side: judge a candidate, register it, or archive it.

All three can be repeated: the verdict is a stored decision, the registration is unique by what the candidate is, and
the ledger takes an event once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from include.costs.gather import behind_model
from include.costs.price import price_text
from include.data.recalls import refuse_recalled
from include.errors import UserError, clip
from include.evaluation.documents import CARD, REPORT, document_of, read
from include.evaluation.gates import CHAMPION as CHAMPION_REFERENCE
from include.evaluation.gates import TEST_SPLIT, Verdict
from include.release.decisions import decide, read_decision
from include.release.ledger import Event, Ledger
from include.release.registry import (
    ACCEPTED,
    ModelVersion,
    Registration,
    data_of,
    list_versions,
    register,
    sync_aliases,
)
from include.release.rollout import StageVerdict
from include.release.versioning import classify, next_version
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.fingerprint import code_version, fingerprint
from include.store.database import open_database
from include.store.objects import ObjectStore, open_store

_Record = Mapping[str, Any]


def champion(settings: Settings, family: str) -> dict[str, str] | None:
    """`version` and `digest` of what serves by default, from the ledger; None before anything served."""
    route = Ledger(open_database(settings.database_url)).route(family)
    if route is None:
        return None
    return {"version": route.table.champion.version, "digest": route.table.champion.digest}


def judge_candidate(
    settings: Settings,
    spec: FamilySpec,
    *,
    run: str,
    dataset: _Record,
    fit: _Record,
    evaluation: _Record,
    attempt: int,
    adjusted: Mapping[str, float],
    backfill: bool,
    at: datetime,
) -> dict[str, Any]:
    """The verdict on the candidate of a run, stored as a decision.

    Args:
        dataset, fit, evaluation: Outputs of the steps `publish`, `fit` and `evaluate`.
        attempt: Which round of sweep, training and evaluation this is, from 1.
        adjusted: What the gate of the round before changed for it.
        backfill: Whether the candidate comes from a backfill; it is judged alike, and can never be released.

    Returns:
        `decision_id`, `verdict`, `next` ("register", "retry", "archive"), `adjust`, `why` (sentences), `gates`.
    """
    compared = evaluation.get("champion")
    given = {
        "candidate": fit["digest"],
        "dataset_version": dataset["dataset_version"],
        "champion": compared["version"] if compared else None,
        "backfill": backfill,
        "attempt": attempt,
        "adjust": dict(adjusted),
        "max_attempts": spec.evaluation.max_attempts,
        "confidence": spec.evaluation.confidence,
        "gates": [gate.model_dump(mode="json") for gate in spec.evaluation.gates],
        "splits": {
            TEST_SPLIT: {
                "summary": evaluation["summary"],
                "comparisons": evaluation["comparisons"],
                "unknown": evaluation.get("unknown") or {},
            },
            **(evaluation.get("other_splits") or {}),
        },
        "cases": evaluation.get("cases"),
        "cases_action": spec.evaluation.cases.value,
    }
    engine = open_database(settings.database_url)
    decision = decide(engine, spec.family, "gate", given, code_version=code_version(), at=at)
    why = list(decision.output["why"])
    serving = champion(settings, spec.family)
    if serving and compared and serving["version"] != compared["version"]:
        why.append(f"note: {serving['version']} serves by now, the comparison was with {compared['version']}")
    return {
        "decision_id": decision.id,
        "verdict": decision.output["verdict"],
        "next": decision.output["next"],
        "adjust": decision.output["adjust"],
        "n_needed": decision.output["n_needed"],
        "gates": decision.output["gates"],
        "why": why,
    }


def register_candidate(
    settings: Settings,
    spec: FamilySpec,
    *,
    run: str,
    actor: str,
    dataset: _Record,
    sweep: _Record,
    fit: _Record,
    evaluation: _Record,
    decision: _Record,
    backfill: bool,
    at: datetime,
    accepted: _Record | None = None,
) -> dict[str, Any]:
    """Registers a candidate that passed its gates, once.

    Args:
        accepted: Who accepted a candidate that its gates left open, and why (`include.release.acceptance`).

    Returns:
        `model_version`, `digest`, `mlflow_version`, `new` (False where this very candidate was registered before),
        `change` ("first", "major", "minor", "patch"), and `releasable`: False for a backfill, and for a repeated
        candidate that serves already or that live traffic or a person refused.

    Raises:
        UserError: The candidate did not pass.
        DataError: Its dataset version was recalled meanwhile, or its report or model card was changed.
    """
    refuse_recalled(settings, spec.family, *data_of(str(dataset["dataset_version"]), fit.get("origins") or {}))
    enough = Verdict.PASS if accepted is None else Verdict.INCONCLUSIVE
    if decision["verdict"] != enough.value:
        raise UserError(
            f"a candidate with verdict {decision['verdict']} cannot be registered",
            where=f"decision {decision['decision_id'][:12]}",
            hint="; ".join(decision["why"][:2]),
        )
    _must_be_about(settings, decision, fit, enough)
    store = open_store(settings.store_url)
    for name in (REPORT, CARD):
        if document := document_of(evaluation, name):
            read(store, document)  # what is registered is what was judged
    cost = behind_model(store, run)
    entry = Registration(
        family=spec.family,
        fingerprint=fingerprint(
            family=spec.family, digest=fit["digest"], dataset=dataset["dataset_digest"], backfill=backfill
        ),
        digest=str(fit["digest"]),
        verdict=ACCEPTED if accepted else decision["verdict"],
        releasable=not backfill,
        dataset_version=str(dataset["dataset_version"]),
        code_version=code_version(),
        record={
            **_record(spec, run, actor, dataset, sweep, fit, evaluation, decision, backfill),
            "dataset": _dataset_facts(store, dataset),
            "cost": cost,
            **({"accepted": dict(accepted)} if accepted else {}),
        },
        choose=lambda known: _choose(spec, evaluation, known),
        description=_description(spec, dataset, evaluation),
        tags={"run": run, "created_by": actor, "backfill": str(backfill).lower(), "cost": price_text(cost)},
    )
    row, new = register(settings, entry, actor=actor, at=at)
    sync_aliases(settings, spec.family)
    return {
        "model_version": row.version,
        "digest": row.digest,
        "releasable": row.releasable and not _has_flown(settings, row),
        "mlflow_version": row.mlflow_version,
        "new": new,
        "change": row.record["change"],
    }


def archive_candidate(
    settings: Settings,
    spec: FamilySpec,
    *,
    run: str,
    actor: str,
    fit: _Record,
    evaluation: _Record,
    decision: _Record,
    at: datetime,
    material: _Record | None = None,
) -> dict[str, Any]:
    """Records in the ledger why a candidate will not fly; its package and report stay where they are.

    Args:
        material: Where what a registration needs was kept, in case a person accepts what the gates left open.
    """
    record = {
        "run": run,
        "digest": fit["digest"],
        "verdict": decision["verdict"],
        "why": list(decision["why"]),
        "decision": decision["decision_id"],
        "report_key": evaluation["report_key"],
        **{name: evaluation.get(name) for name in ("report_digest", "card_key", "card_digest")},
        **(material or {}),
    }
    ledger = Ledger(open_database(settings.database_url))
    ledger.append(spec.family, Event.ARCHIVED, key=f"archived:{run}", actor=actor, at=at, record=record)
    return {"archived": True, **record}


def _choose(spec: FamilySpec, evaluation: _Record, known: Sequence[ModelVersion]) -> tuple[str, dict[str, Any]]:
    candidates = [version for version in known if not version.is_baseline]
    before: _Record = candidates[-1].record if candidates else {}
    change, why = classify(
        evaluation["signature"],
        before.get("signature"),
        spec.evaluation.gates,
        evaluation["comparisons"].get(CHAMPION_REFERENCE, {}),
        meaning=spec.meaning,
        meant=before.get("meaning"),
    )
    version = next_version([version.version for version in known], change)
    if not candidates:
        return version, {"change": "first", "change_why": "the first candidate"}
    return version, {"change": change.value, "change_why": why}


def _record(
    spec: FamilySpec,
    run: str,
    actor: str,
    dataset: _Record,
    sweep: _Record,
    fit: _Record,
    evaluation: _Record,
    decision: _Record,
    backfill: bool,
) -> dict[str, Any]:
    """Everything that the version is known by; stored with it and never changed."""
    return {
        "run": run,
        "creator": actor,
        "backfill": backfill,
        "code_version": code_version(),
        "model": spec.model,
        "hyperparameters": sweep.get("hyperparameters"),
        "seed": sweep.get("seed"),
        "origins": fit.get("origins") or {},
        "adjusted": fit.get("adjusted") or {},
        "work_lost": fit.get("work_lost"),
        "sweep": {**{key: sweep.get(key) for key in ("study", "value", "confirmed")}, "metric": spec.sweep.metric},
        "validation_metrics": fit.get("metrics"),
        "mlflow_run": fit.get("mlflow_run"),
        "metrics": evaluation["summary"],
        "comparisons": evaluation["comparisons"],
        "champion": evaluation.get("champion"),
        "baselines": evaluation["baselines"],
        "selective": evaluation.get("selective", []),
        "signature": evaluation["signature"],
        "meaning": dict(spec.meaning),
        "bytes": evaluation["package_bytes"],
        "report_key": evaluation["report_key"],
        "report_digest": evaluation.get("report_digest"),
        "card_key": evaluation["card_key"],
        "card_digest": evaluation.get("card_digest"),
        "cases": _cases(evaluation.get("cases")),
        "answers_key": evaluation["answers_key"],
        "decision": decision["decision_id"],
    }


def _dataset_facts(store: ObjectStore, dataset: _Record) -> dict[str, Any]:
    """The dataset version, its digest, and its manifest with the sha256 (hex) that it has now: it never changes."""
    facts = {"version": dataset["dataset_version"], "digest": dataset["dataset_digest"]}
    key = dataset.get("manifest_key")
    if not key:
        return facts
    return {**facts, "manifest_key": key, "manifest_digest": hashlib.sha256(store.get(str(key))).hexdigest()}


def _must_be_about(settings: Settings, decision: _Record, fit: _Record, enough: Verdict) -> None:
    """What counts is the decision on record: it must say `enough`, and must say it of this package.

    Raises:
        UserError: It does not.
    """
    stored = read_decision(open_database(settings.database_url), str(decision["decision_id"]))
    if stored.output["verdict"] != enough.value or stored.input["candidate"] != fit["digest"]:
        raise UserError(
            f"the decision on record says {stored.output['verdict']} of package {clip(stored.input['candidate'], 12)}",
            where=f"decision {stored.id[:12]}",
            hint=f"judge package {clip(fit['digest'], 12)} again",
        )


def _cases(found: _Record | None) -> dict[str, Any] | None:
    """Which known cases the version was held against."""
    return {"key": found["key"], "n": found["n"], "failed": len(found["failed"])} if found else None


def _description(spec: FamilySpec, dataset: _Record, evaluation: _Record) -> str:
    shown = ", ".join(
        f"{metric} {record['value']:.4g} [{record['low']:.4g}, {record['high']:.4g}]"
        for metric, record in list(evaluation["summary"].items())[:4]
    )
    return f"{spec.title}, dataset {dataset['dataset_version']}, test n = {evaluation['n']}: {shown}"


def _has_flown(settings: Settings, row: ModelVersion) -> bool:
    """Whether this version serves, or was refused by live traffic or a person: then a repeat does not fly again."""
    ledger = Ledger(open_database(settings.database_url))
    route = ledger.route(row.family)
    if route is not None and route.table.champion.version == row.version and not route.table.stage:
        return True
    judged = ledger.entries(row.family, frozenset({Event.STAGE_JUDGED, Event.REJECTED}), limit=1000)
    return any(
        entry.model_version == row.version
        and (entry.event is Event.REJECTED or entry.record["verdict"] == StageVerdict.FAIL.value)
        for entry in judged
    )


def versions(settings: Settings, family: str) -> list[ModelVersion]:
    """All registered versions of a family, the oldest first."""
    return list_versions(open_database(settings.database_url), family)
