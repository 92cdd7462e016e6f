"""Runs the trials of one sweep worker, and the repeats of the best; what they share is made once."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.data.datasets import open_dataset
from include.errors import Diverged, UserError
from include.families.contract import DatasetView, Family, load_code
from include.spec.models import FamilySpec
from include.steps.entry import StepContext
from include.training.choice import Outcome, ranked
from include.training.plan import OVERRIDES, threads_per_process
from include.training.space import draw
from include.training.study import BUDGET, outcomes
from include.training.trainer import Best, Report, TrialWork, load_trainer
from include.training.trial_cost import is_measured, serving_cost
from include.training.weights import Origins, fetch_origins

if TYPE_CHECKING:
    import optuna
    from optuna.trial import Trial


class TrialRunner:
    """The objectives of a worker's studies.

    Args:
        spec, defaults: With what a failed gate changed applied.
        scratch: A folder of the worker's own.
        study: The sweep's study.
    """

    def __init__(
        self, context: StepContext, spec: FamilySpec, defaults: Mapping[str, Any], scratch: Path, study: optuna.Study
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
        self._seed = int(context.document.inputs["seed"])
        self._loaded: tuple[Family, DatasetView, Origins] | None = None

    def objective(self, trial: Trial) -> float | tuple[float, float]:
        """The best value of the sweep's metric over the trial's epochs; with it, what its model costs."""
        values = {**self._defaults, **draw(trial, self._spec.sweep.space)}
        self._show(self._study, trial.number, "starts")
        self._scratch.mkdir(parents=True, exist_ok=True)
        keep = Best(self._scratch) if self._spec.sweep.second else None
        value = self._train(
            self._study, trial, values, self._seed, lambda epoch, value: self._report(trial, epoch, value), keep
        )
        result = value if keep is None else (value, self._second(values, keep))
        self._show(self._study, trial.number, "done", value)
        return result

    def repeat(self, repeats: optuna.Study, trial: Trial, params: Mapping[str, Any], seed: int) -> float:
        """The value of a configuration that is trained again, with another seed, and not ended early."""
        self._show(repeats, trial.number, "starts", seed=seed)
        value = self._train(repeats, trial, {**self._defaults, **params}, seed, lambda epoch, value: None, None)
        self._show(repeats, trial.number, "done", value, seed=seed)
        return value

    def _train(
        self,
        study: optuna.Study,
        trial: Trial,
        values: dict[str, Any],
        seed: int,
        report: Report,
        keep: Best | None,
    ) -> float:
        import optuna

        family, dataset, origins = self._parts()
        try:
            return load_trainer(self._spec).trial(
                TrialWork(
                    family,
                    self._spec,
                    dataset,
                    values,
                    seed=seed,
                    threads=threads_per_process(self._context.document.model_spec.sweep.workers),
                    folder=self._scratch,
                    report=report,
                    origins=origins,
                    keep=keep,
                )
            )
        except Diverged as error:  # these values do not train: that is what the trial had to find out
            self._show(study, trial.number, "diverged")
            raise optuna.TrialPruned(error.message) from error
        finally:
            gc.collect()  # trainer, module and optimizer refer to each other: their tensors stay until Python looks

    def _second(self, hyperparameters: dict[str, Any], best: Best) -> float:
        second = self._spec.sweep.second
        assert second is not None and best.weights is not None
        if not is_measured(second):
            if second.metric not in best.metrics:
                known = ", ".join(sorted(best.metrics))
                hint = f"it gives {known}; costs of serving have the names that gates use"
                raise UserError(f"validation gives no metric {second.metric!r}", where="sweep.second.metric", hint=hint)
            return best.metrics[second.metric]
        family, dataset, _ = self._parts()
        folder = self._scratch / "package"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return serving_cost(family, self._spec, dataset, hyperparameters, weights=best.weights, folder=folder)

    def _report(self, trial: Trial, epoch: int, value: float) -> None:
        import optuna

        if self._spec.sweep.second is not None:
            return  # Optuna takes no reports of trials with two objectives, and prunes none
        trial.report(value, epoch + 1)  # pruners count epochs that are done
        if epoch + 1 < self._spec.sweep.max_epochs and trial.should_prune():  # what has ended is not ended early
            self._show(self._study, trial.number, "pruned", value)
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

    def _show(self, study: optuna.Study, trial: int, state: str, value: float | None = None, **facts: Any) -> None:
        from optuna.trial import TrialState

        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        budget, repeats = int(study.user_attrs[BUDGET]), study is not self._study
        facts = {"trial": trial, "state": state, **facts}
        if value is not None:
            facts[self._spec.sweep.metric] = value
        best: list[Outcome] = ranked(outcomes(self._study), self._spec.sweep)[:1]
        if best and not repeats:
            facts["best"] = best[0].value
        done = len(ended) + (state != "starts")
        self._context.progress(min(done, budget), budget, "repeats" if repeats else "trials", force=True, **facts)
