"""The `sweep` step: one worker of the hyperparameter search. Several of them share a study.

A trial is a short fit in this process on a part of the training examples, judged by the family's own validation. The
study lives in a database, so a worker that is killed and started again goes on where the study is. When the study has
its trials, the workers train the best configurations again with other seeds, where the spec asks for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from include.costs.price import asked_for, money
from include.data.recalls import refuse_recalled
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.entry import StepContext
from include.training.budget import TrialFacts, converged, over_budget, spent
from include.training.choice import pareto_front, ranked
from include.training.plan import adjusted_facts
from include.training.repeats import confirmation, repeats_study, run_repeats, to_json
from include.training.space import adjusted, trial_budget
from include.training.study import (
    DATASET,
    DEFAULTS,
    FAMILY,
    PER_SECOND,
    STOPPED,
    load_study,
    open_study,
    outcomes,
    trial_facts,
)
from include.training.study_storage import StudyError
from include.training.study_trials import run_trials, settle
from include.training.trials import TrialRunner

if TYPE_CHECKING:
    import optuna


def sweep(context: StepContext) -> dict[str, Any]:
    """Inputs: `dataset_version`, `dataset_digest`, `study`, `trials`, `seed`, `adjust`, `origins` (as in `fit`).

    Outputs: `study`, `trials_run` and `repeats_run` (by this worker), `finished` (True: the study is done), `stopped`
    (why before it had all its trials; None: it has them), `spent` (`minutes` of all trials and repeats, `money`, None
    where it is not known), `adjusted` (as in `fit`), `best` (of the trials; with `front`, all that no other beats, for
    two objectives), `confirmed` (what repeats decided; None where there were none) and `mlflow_run` (of the study,
    which the first worker leaves there when it is done; None for the others, and where MLflow failed).
    """
    document, inputs = context.document, context.document.inputs
    refuse_recalled(context.settings, context.document.family, inputs["dataset_version"])
    changes = inputs.get("adjust") or {}
    asked, url = document.model_spec, context.settings.optuna_url
    spec, defaults = adjusted(asked.model_copy(update={"trainer": document.adjustment.trainer(asked.trainer)}), changes)
    seed = int(inputs["seed"])
    study = open_study(
        url,
        inputs["study"],
        spec.sweep,
        seed=seed,
        slot=document.slot,
        defaults=defaults,
        budget=trial_budget(int(inputs["trials"]), changes),
        facts={FAMILY: spec.family, DATASET: inputs["dataset_version"], PER_SECOND: _per_second(spec)},
    )
    worker = f"{document.fingerprint[:20]}-{document.slot}"
    scratch = context.settings.home / "scratch" / worker
    runner = TrialRunner(context, spec, defaults, scratch, study)
    try:
        ran = run_trials(study, runner.objective, worker=worker, stop=stop_rule(spec))
        settle(study)
        again = run_repeats(
            url, study, spec.sweep, runner, seed=seed, worker=worker, stop=lambda trials: _over(spec, trials)
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found = confirmation(url, study, spec.sweep)
    return {
        "study": inputs["study"],
        "trials_run": ran,
        "repeats_run": again,
        "finished": True,
        "stopped": study.user_attrs.get(STOPPED),
        "spent": study_spent(spec, url, study),
        "adjusted": adjusted_facts(asked, asked.hyperparameters, document.adjustment),
        "best": best_facts(study, spec),
        "confirmed": None if found is None else to_json(found, study),
        "mlflow_run": _report(context, study) if document.slot == 0 else None,
    }


def best_hyperparameters(settings: Settings, study: str, spec: FamilySpec) -> dict[str, Any]:
    """What the final fit should use: `hyperparameters`, the metric's `value` in the study, `trial` and `confirmed`.

    The best trial's parameters over the defaults that the study started from. Trial 0 tried those defaults and a tie
    goes to the earlier trial, so that without repeats the choice was never worse than they were; with repeats, it is
    what they say.

    Raises:
        StudyError: No trial of the study finished.
    """
    found = load_study(settings.optuna_url, study)
    best = best_facts(found, spec)
    if best is None:
        hint = "read the sweep's log: every trial failed or was pruned"
        raise StudyError("no trial of the sweep finished", where=study, hint=hint, study=study)
    defaults = found.user_attrs.get(DEFAULTS, dict(spec.hyperparameters))
    confirmed = confirmation(settings.optuna_url, found, spec.sweep)
    number = best["trial"] if confirmed is None else confirmed.trial
    trial = found.get_trials(deepcopy=False)[number]
    return {
        "hyperparameters": {**defaults, **trial.params},
        "value": trial.values[0],
        "trial": number,
        "confirmed": None if confirmed is None else to_json(confirmed, found),
    }


def best_facts(study: optuna.Study, spec: FamilySpec) -> dict[str, Any] | None:
    """The study's best trial, and its Pareto front where there are two objectives; None where no trial finished."""
    found = outcomes(study)
    if not found:
        return None
    best, params = ranked(found, spec.sweep)[0], {t.number: t.params for t in study.get_trials(deepcopy=False)}
    facts: dict[str, Any] = {"trial": best.trial, "value": best.value, "params": params[best.trial]}
    if spec.sweep.second is not None:
        facts["second"] = best.second
        facts["front"] = [{**vars(one), "params": params[one.trial]} for one in pareto_front(found, spec.sweep)]
    return facts


def stop_rule(spec: FamilySpec) -> Callable[[Sequence[TrialFacts]], str | None]:
    """Why no further trial may start, by the spec's budget and convergence; None while one may."""
    rule = spec.sweep.confirm
    reserve = rule.top * rule.seeds if rule else 0

    def stop(trials: Sequence[TrialFacts]) -> str | None:
        values = [trial.value for trial in trials if trial.tried and not trial.running]
        return _over(spec, trials, reserve) or converged(values, spec.sweep.direction, spec.sweep.convergence)

    return stop


def study_spent(spec: FamilySpec, url: str, study: optuna.Study) -> dict[str, float | None]:
    """What the trials and repeats took: `minutes`, and `money` (None where there is no price)."""
    repeats = repeats_study(url, study.study_name)
    seconds = spent([*trial_facts(study), *(trial_facts(repeats) if repeats else [])]).seconds
    price = _per_second(spec)
    return {"minutes": round(seconds / 60, 3), "money": None if price is None else seconds * price}


def _report(context: StepContext, study: optuna.Study) -> str | None:
    from include.training.study_tracking import leave_report  # imports what one worker of many needs

    return leave_report(context, study)


def _over(spec: FamilySpec, trials: Sequence[TrialFacts], reserve: int = 0) -> str | None:
    return over_budget(trials, spec.sweep.budget, _per_second(spec), reserve=reserve)


def _per_second(spec: FamilySpec) -> float | None:
    """The price of one worker: of all that its pod asks for, as it tries one thing at a time."""
    return money(asked_for(spec.resources, 1.0), spec.resources.prices, spec.resources.gpu_kind)
