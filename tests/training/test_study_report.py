"""What a finished study leaves: a page with Optuna's plots, and a run in MLflow."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial

from include.settings import Settings
from include.spec.search import SweepSpec
from include.steps.document import make_document
from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training.space import draw
from include.training.study import open_study
from include.training.study_report import study_page, study_plots, study_record
from include.training.study_tracking import STUDY_TAG, leave_report
from include.training.study_trials import run_trials
from tests.fakes.wide_family import wide_spec

SPACE = {"rate": {"kind": "float", "low": 0.1, "high": 1.0}, "mode": {"kind": "choice", "values": ["<b>a", "b"]}}


def _study(url: str, trials: int, **changes: Any) -> optuna.Study:
    sweep = SweepSpec.model_validate({"metric": "map", "space": SPACE, "sampler": "random"} | changes)
    study = open_study(
        url, "s", sweep, seed=1, slot=0, defaults={"rate": 0.2, "mode": "<b>a"}, budget=trials
    )  # fmt: skip

    def score(trial: Trial) -> float | tuple[float, float]:
        rate = draw(trial, sweep.space)["rate"]
        if sweep.second:
            return rate, rate**2
        trial.report(rate / 2, 1)
        trial.report(rate, 2)
        return float(rate)

    run_trials(study, score, worker="w")
    return study


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def _context(settings: Settings) -> StepContext:
    inputs = {"dataset_version": "1.0.0"}
    document = make_document(
        "sweep", "test/run", wide_spec(), inputs, spec_parts=(), code_version="c", created_at=datetime.now(UTC)
    )
    return StepContext(document, open_store(settings.store_url), settings)


def test_one_objective_has_history_epochs_importances_and_coordinates(url: str) -> None:
    study = _study(url, 6)
    plots = study_plots(study)
    assert set(plots) == {"history", "intermediate_values", "parallel_coordinate", "importances", "timeline"}
    weight = dict(zip(plots["importances"].data[0].y, plots["importances"].data[0].x, strict=True))
    assert weight["rate"] > weight["mode"]  # it alone decides


def test_two_objectives_have_their_front(url: str) -> None:
    study = _study(url, 6, second={"metric": "memory_mb", "choose": "best"}, pruner="none")
    plots = study_plots(study)
    assert "pareto_front" in plots and "history" in plots
    record = study_record(url, study)
    rates = {trial["trial"]: trial["params"]["rate"] for trial in record["trials"]}
    assert record["best"] == max(rates, key=lambda number: rates[number])
    assert set(record["front"]) == set(rates)  # each costs more and is better


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_with_hardly_a_trial_has_a_page_as_well(url: str, trials: int) -> None:
    if trials == 0:
        study = optuna.create_study(study_name="empty", storage=url)
    else:
        sweep = SweepSpec.model_validate({"metric": "map", "space": SPACE})
        study = open_study(url, "one", sweep, seed=1, slot=0, defaults={"rate": 0.2, "mode": "b"}, budget=1)
        run_trials(study, lambda trial: float(draw(trial, sweep.space)["rate"]), worker="w")
    page = study_page(study_record(url, study), study_plots(study))
    assert ("none finished" in page) == (trials == 0)


def test_the_page_needs_no_network_and_shows_values_as_text(url: str) -> None:
    study = _study(url, 4)
    page = study_page(study_record(url, study), study_plots(study))
    assert not re.search(r"""<(script|link|img)[^>]+(src|href)=["']?http""", page)
    assert page.count("plotly.js v") == 1
    facts = page[: page.index("<script")]
    assert "&lt;b&gt;a" in facts and "<b>a" not in facts


@pytest.mark.slow
def test_mlflow_holds_the_trials_and_the_plots_and_a_second_report_goes_on_with_the_run(settings: Settings) -> None:
    from mlflow.tracking import MlflowClient

    study = _study(settings.optuna_url, 5)
    context = _context(settings)
    run = leave_report(context, study)
    assert run is not None and leave_report(context, study) == run
    client = MlflowClient(settings.mlflow_url)
    kept = client.get_run(run)
    assert kept.data.tags[STUDY_TAG] == "s" and kept.info.status == "FINISHED"
    points = client.get_metric_history(run, "map")
    assert [(point.step, point.value) for point in sorted(points, key=lambda point: point.step)] == [
        (trial.number, trial.value) for trial in study.get_trials()
    ]
    names = {Path(file.path).name for file in client.list_artifacts(run, "sweep")}
    assert {"study.html", "study.json", "history.json", "parallel_coordinate.json", "importances.json"} <= names
    local = Path(client.download_artifacts(run, "sweep/history.json"))
    assert json.loads(local.read_text())["data"]
    beside = (settings.home / "db" / "mlflow-artifacts").as_uri()
    assert kept.info.artifact_uri.startswith(beside)  # and not in the folder that the step was started in
    page = open_store(settings.store_url).get(f"{context.document.output}/docs/study.html")
    assert b"Study s" in page


def test_a_broken_mlflow_costs_the_run_and_not_the_sweep(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    study = _study(settings.optuna_url, 2)
    context = _context(replace(settings, mlflow_url=f"sqlite:///{tmp_path / 'broken.db'}"))
    assert leave_report(context, study) is None
    assert open_store(settings.store_url).get(f"{context.document.output}/docs/study.html")
