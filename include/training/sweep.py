"""The `sweep` step: one worker of the hyperparameter search. Several of them share a study.

A trial is a short fit in this process on a part of the training examples, judged by the family's own validation. The
study lives in a database, so a worker that is killed and started again goes on where the study is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.costs.price import asked_for, money
from include.data.datasets import open_dataset
from include.data.recalls import refuse_recalled
from include.errors import Diverged
from include.families.contract import DatasetView, Family, load_code
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.entry import StepContext
from include.training.budget import TrialFacts, converged, over_budget, spent
from include.training.plan import OVERRIDES, adjusted_facts, threads_per_process
from include.training.space import adjusted, draw, trial_budget
from include.training.study import (
    DEFAULTS,
    STOPPED,
    StudyError,
    best_trial,
    load_study,
    open_study,
    run_trials,
    trial_facts,
)
from include.training.trainer import load_trainer
from include.training.weights import Origins, fetch_origins

if TYPE_CHECKING:
    from optuna.trial import Trial


def sweep(context: StepContext) -> dict[str, Any]:
    """Inputs: `dataset_version`, `dataset_digest`, `study`, `trials`, `seed`, `adjust`, `origins` (as in `fit`).

    Outputs: `study`, `trials_run` (by this worker), `finished` (True: the study is done), `stopped` (why before
    it had all its trials; None: it has them), `spent` (`minutes` of all trials, `money`, None where it is not known),
    `adjusted` (as in `fit`) and `best`.
    """
    document, inputs = context.document, context.document.inputs
    refuse_recalled(context.settings, context.document.family, inputs["dataset_version"])
    changes = inputs.get("adjust") or {}
    asked = document.model_spec
    spec, defaults = adjusted(asked.model_copy(update={"trainer": document.adjustment.trainer(asked.trainer)}), changes)
    budget = trial_budget(int(inputs["trials"]), changes)
    study = open_study(
        context.settings.optuna_url,
        inputs["study"],
        spec.sweep,
        seed=int(inputs["seed"]),
        slot=document.slot,
        defaults=defaults,
        budget=budget,
    )
    scratch = context.settings.home / "scratch" / f"{document.fingerprint[:20]}-{document.slot}"
    runner = _Trials(context, spec, defaults, scratch, study, budget)
    try:
        worker = f"{document.fingerprint[:20]}-{document.slot}"
        ran = run_trials(study, runner.objective, budget=budget, worker=worker, stop=stop_rule(spec))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    best = best_trial(study)
    return {
        "study": inputs["study"],
        "trials_run": ran,
        "finished": True,
        "stopped": study.user_attrs.get(STOPPED),
        "spent": _spent(spec, trial_facts(study)),
        "adjusted": adjusted_facts(asked, asked.hyperparameters, document.adjustment),
        "best": None if best is None else {"trial": best.number, "value": best.value, "params": best.params},
    }


def best_hyperparameters(settings: Settings, study: str, spec: FamilySpec) -> dict[str, Any]:
    """What the final fit should use: `hyperparameters`, and the metric's `value` in the study.

    The best trial's parameters over the defaults that the study started from. Trial 0 tried those defaults and a tie
    goes to the earlier trial, so the choice was never worse than they were.

    Raises:
        StudyError: No trial of the study finished.
    """
    found = load_study(settings.optuna_url, study)
    best = best_trial(found)
    if best is None:
        hint = "read the sweep's log: every trial failed or was pruned"
        raise StudyError("no trial of the sweep finished", where=study, hint=hint, study=study)
    defaults = found.user_attrs.get(DEFAULTS, dict(spec.hyperparameters))
    return {"hyperparameters": {**defaults, **best.params}, "value": best.value, "trial": best.number}


def stop_rule(spec: FamilySpec) -> Callable[[Sequence[TrialFacts]], str | None]:
    """Why no further trial may start, by the spec's budget and convergence; None while one may."""
    price = _per_second(spec)

    def stop(trials: Sequence[TrialFacts]) -> str | None:
        values = [trial.value for trial in trials if trial.tried and not trial.running]
        return over_budget(trials, spec.sweep.budget, price) or converged(
            values, spec.sweep.direction, spec.sweep.convergence
        )

    return stop


def _per_second(spec: FamilySpec) -> float | None:
    """The price of one worker: of all that its pod asks for, as it tries one thing at a time."""
    return money(asked_for(spec.resources, 1.0), spec.resources.prices, spec.resources.gpu_kind)


def _spent(spec: FamilySpec, trials: Sequence[TrialFacts]) -> dict[str, float | None]:
    seconds, price = spent(trials).seconds, _per_second(spec)
    return {"minutes": round(seconds / 60, 3), "money": None if price is None else seconds * price}


class _Trials:
    """Runs the trials of one worker; what they share is made once."""

    def __init__(
        self, context: StepContext, spec: FamilySpec, defaults: dict[str, Any], scratch: Path, study: Any, budget: int
    ) -> None:
        trainer = {
            "max_epochs": spec.sweep.max_epochs,
            "max_examples": spec.sweep.max_examples or spec.trainer.max_examples,
            "devices": 1,
            "early_stopping_patience": None,
        }
        self._spec = spec.model_copy(update={"trainer": spec.trainer.model_copy(update=trainer)})
        self._defaults = {name: value for name, value in defaults.items() if name not in OVERRIDES}
        self._context = context
        self._scratch = scratch
        self._study = study
        self._budget = budget
        self._seed = int(context.document.inputs["seed"])
        self._loaded: tuple[Family, DatasetView, Origins] | None = None

    def objective(self, trial: Trial) -> float:
        """The best value of the sweep's metric over the trial's epochs."""
        import optuna

        values = {**self._defaults, **draw(trial, self._spec.sweep.space)}
        self._show(trial, "starts")
        family, dataset, origins = self._parts()
        try:
            value = load_trainer(self._spec).trial(
                family,
                self._spec,
                dataset,
                values,
                seed=self._seed,
                threads=threads_per_process(self._context.document.model_spec.sweep.workers),
                folder=self._scratch,
                report=lambda epoch, value: self._report(trial, epoch, value),
                origins=origins,
            )
        except Diverged as error:  # these values do not train: that is what the trial had to find out
            self._show(trial, "diverged")
            raise optuna.TrialPruned(error.message) from error
        self._show(trial, "done", value)
        return value

    def _report(self, trial: Trial, epoch: int, value: float) -> None:
        import optuna

        trial.report(value, epoch)
        if trial.should_prune():
            self._show(trial, "pruned", value)
            raise optuna.TrialPruned

    def _parts(self) -> tuple[Family, DatasetView, Origins]:
        if self._loaded is None:
            spec, inputs = self._spec, self._context.document.inputs
            self._scratch.mkdir(parents=True, exist_ok=True)
            origins = fetch_origins(self._context.settings, spec, inputs, self._scratch)
            version, fold = inputs["dataset_version"], spec.split.fold
            dataset = open_dataset(self._context.settings, spec.family, version, fold)
            self._loaded = (load_code(spec.code), dataset, origins)
        return self._loaded

    def _show(self, trial: Trial, state: str, value: float | None = None) -> None:
        from optuna.trial import TrialState

        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        best = best_trial(self._study)
        facts: dict[str, Any] = {"trial": trial.number, "state": state}
        if value is not None:
            facts[self._spec.sweep.metric] = value
        if best is not None and best.value is not None:
            facts["best"] = best.value
        done = len(ended) + (state != "starts")
        self._context.progress(min(done, self._budget), self._budget, "trials", force=True, **facts)
