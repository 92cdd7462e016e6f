"""The light tasks of `train__<family>`: what to do, which hyperparameters, and what becomes of the candidate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.errors import DataError
from include.settings import Settings
from include.spec import FamilySpec
from include.spec.probing import CLEAN
from include.steps.fingerprint import fingerprint
from plugins.windtunnel.runs import run_actor, run_params, run_spec
from plugins.windtunnel.schedule import candidate_asset, retrain_asset
from plugins.windtunnel.tasks.data import plan_data


def plan_run(family: str) -> dict[str, Any]:
    """Fixes what the run works on: validated parameters, interval, source, and the champion to compare with."""
    from include.release import candidate
    from include.training.weights import resolve

    context = get_current_context()
    params = run_params(context)
    plan = {
        **plan_data(family),
        "seed": params.seed,
        "attempt": params.attempt,
        "adjust": params.adjust,
        "releasable": params.releasable,
        "champion": candidate.champion(Settings.from_env(), family),
        "origins": resolve(Settings.from_env(), run_spec(context, family)),
        "cases": known_cases(family),
    }
    print(f"plan: {plan}")
    return plan


def known_cases(family: str) -> str | None:
    """Object key of the known cases that the run judges by; None where the family has none."""
    from include.evaluation.cases import CASES_FILE, pin_cases
    from include.spec import family_folder
    from include.store.objects import open_store

    try:
        return pin_cases(open_store(Settings.from_env().store_url), family, family_folder(family) / CASES_FILE)
    except DataError as error:  # trying again changes nothing
        raise AirflowFailException(str(error)) from error


def plan_sweep(family: str, plan: dict[str, Any], dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per sweep worker; all share a study that is named by what it searches on.

    Looks for recalls as well: the steps before may have been reused, and so not have looked.
    """
    from include.data.recalls import refuse_recalled

    try:
        refuse_recalled(Settings.from_env(), family, dataset["dataset_version"])
    except DataError as error:  # trying again changes nothing
        raise AirflowFailException(str(error)) from error
    spec = run_spec(get_current_context(), family)
    inputs = {
        "dataset_version": dataset["dataset_version"],
        "dataset_digest": dataset["dataset_digest"],
        "trials": spec.sweep.trials,
        "seed": plan["seed"],
        "adjust": plan["adjust"],
        "origins": plan["origins"],
    }
    parts = spec.model_dump(mode="json", include={"model", "hyperparameters", "trainer", "sweep"})
    if spec.split.fold is not None:
        parts["fold"] = spec.split.fold
    study = f"{family}-{dataset['dataset_version']}-{fingerprint(inputs=inputs, spec=parts)[:10]}"
    return [{**inputs, "study": study} for _ in range(min(spec.sweep.workers, spec.sweep.trials))]


def choose(family: str, plan: dict[str, Any], dataset: dict[str, Any], sweep: list[dict[str, Any]]) -> dict[str, Any]:
    """The hyperparameters for the final training: the study's best trial, never worse than the spec's defaults."""
    from include.training.sweep import best_hyperparameters

    study = next(iter(sweep))["study"]
    best = best_hyperparameters(Settings.from_env(), study, run_spec(get_current_context(), family))
    print(f"best of study {study}: {best}")
    return {
        "dataset_version": dataset["dataset_version"],
        "dataset_digest": dataset["dataset_digest"],
        "seed": plan["seed"],
        "hyperparameters": best["hyperparameters"],
        "origins": plan["origins"],
        "study": study,
        "value": best["value"],
        "confirmed": best["confirmed"],
    }


def baselines(spec: FamilySpec) -> list[str]:
    """Models without training that gates or the bootstrap refer to (champion and zero-shot are always there)."""
    named = {gate.reference for gate in spec.evaluation.gates if gate.reference} | {spec.release.bootstrap}
    return sorted(name for name in named if name and name not in {"champion", "zero_shot", CLEAN})


def gate(
    family: str, plan: dict[str, Any], dataset: dict[str, Any], fit: dict[str, Any], evaluation: dict[str, Any]
) -> dict[str, Any]:
    """Judges the candidate by the spec's gates; the decision and its input are stored and can be replayed."""
    from include.release import candidate

    decision = candidate.judge_candidate(
        Settings.from_env(),
        run_spec(get_current_context(), family),
        run=plan["run"],
        dataset=dataset,
        fit=fit,
        evaluation=evaluation,
        attempt=plan["attempt"],
        adjusted=plan["adjust"],
        backfill=not plan["releasable"],
        at=datetime.now(UTC),
    )
    for reason in decision["why"]:
        print(f"gate: {reason}")
    print(f"verdict: {decision['verdict']}, next: {decision['next']}")
    return decision


def follow_verdict(decision: dict[str, Any]) -> str:
    """Branch: `register`, `retry` or `archive`."""
    return str(decision["next"])


def register(
    family: str,
    plan: dict[str, Any],
    dataset: dict[str, Any],
    chosen: dict[str, Any],
    fit: dict[str, Any],
    evaluation: dict[str, Any],
    decision: dict[str, Any],
) -> dict[str, Any]:
    """Registers the candidate (MLflow, version, ledger); once, however often the task is tried."""
    from include.release import candidate

    context = get_current_context()
    return candidate.register_candidate(
        Settings.from_env(),
        run_spec(context, family),
        run=plan["run"],
        actor=run_actor(context),
        dataset=dataset,
        sweep=_searched(chosen),
        fit=fit,
        evaluation=evaluation,
        decision=decision,
        backfill=not plan["releasable"],
        at=datetime.now(UTC),
    )


def may_announce(registered: dict[str, Any]) -> bool:
    """Whether the registered candidate may be released: a backfill's and a repeated one may not."""
    if not registered["releasable"]:
        print(f"{registered['model_version']} was built for comparison only: it is not announced")
    return bool(registered["releasable"])


def announce(family: str, registered: dict[str, Any]) -> None:
    """Emits the candidate's asset event, which starts the release."""
    context = get_current_context()
    params = run_params(context)
    context["outlet_events"][candidate_asset(family)].extra = {
        "model_version": registered["model_version"],
        "digest": registered["digest"],
        "profile": params.profile,
        "reason": params.reason,
    }


def retry(family: str, plan: dict[str, Any], decision: dict[str, Any]) -> None:
    """Asks for the next round through the retrain request: the same work, with what the gate adjusted."""
    context = get_current_context()
    params = run_params(context)
    again = params.model_copy(update={"attempt": plan["attempt"] + 1, "adjust": decision["adjust"]})
    context["outlet_events"][retrain_asset(family)].extra = {
        "reason": f"round {again.attempt} after {plan['run']}: {decision['verdict']}",
        "params": again.model_dump(mode="json", exclude={"reason"}),
    }


def archive(
    family: str,
    plan: dict[str, Any],
    dataset: dict[str, Any],
    chosen: dict[str, Any],
    fit: dict[str, Any],
    evaluation: dict[str, Any],
    decision: dict[str, Any],
) -> dict[str, Any]:
    """Keeps the candidate's record, and says why it will not fly; a person may accept what the gates left open."""
    from include.release import acceptance, candidate
    from include.store.objects import open_store

    context, settings = get_current_context(), Settings.from_env()
    spec, actor = run_spec(context, family), run_actor(context)
    given = {"run": plan["run"], "fit": fit, "evaluation": evaluation, "decision": decision}
    material = None
    if decision["verdict"] == "INCONCLUSIVE":
        more = {"dataset": dataset, "sweep": _searched(chosen), "backfill": not plan["releasable"], "actor": actor}
        material = acceptance.keep_material(open_store(settings.store_url), spec, **given, **more)
        print(f"left open: `windtunnel accept {family} {decision['decision_id'][:12]} --reason ...` would register it")
    return candidate.archive_candidate(settings, spec, **given, actor=actor, at=datetime.now(UTC), material=material)


def _searched(chosen: dict[str, Any]) -> dict[str, Any]:
    """What the registry keeps of the sweep."""
    return {key: chosen[key] for key in ("study", "hyperparameters", "value", "seed", "confirmed")}
