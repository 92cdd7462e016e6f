"""The step `drift`: do live questions and answers still look like those the champion was tested on?

The reference is what the champion answered on its test split. Live rows come from the prediction log, sampled so that a
busy day takes no more memory than a quiet one. Evidently draws the report for people; see `distance` for the judgement.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from include.data.datasets import open_dataset
from include.evaluation.examples import Place, load_answers, save_answers
from include.evaluation.gates import TEST_SPLIT
from include.families.contract import load_code
from include.monitoring.distance import THRESHOLD, Floats, chance, wasserstein
from include.monitoring.features import features, vocabulary
from include.release.registry import ModelVersion, find_version
from include.serving.package import fetch, read_package
from include.serving.predictions import read_predictions
from include.steps.entry import StepContext
from include.store.database import open_database

if TYPE_CHECKING:
    import pandas as pd

#: Rows that are kept of either side.
MAX_ROWS = 5_000
_TRAIN_SPLIT = "train"
_Columns = Mapping[str, Floats]


def drift(context: StepContext) -> dict[str, Any]:
    """Compares live traffic with the champion's reference.

    Inputs: `now` (ISO 8601), `champion` ({version, digest}); optional `since`.

    Returns:
        `drifted`, `share` (of columns that drifted), `columns` (name -> score, threshold, chance, drifted), `n_live`,
        `n_reference`, `report_key` (HTML, None where too few rows were there), `why`, `cause`.
    """
    document = context.document
    spec, inputs = document.model_spec, document.inputs
    rules, version = spec.monitoring, str(inputs["champion"]["version"])
    until = datetime.fromisoformat(inputs["now"])
    window = timedelta(hours=rules.drift_window_hours)
    since = datetime.fromisoformat(inputs["since"]) if inputs.get("since") else until - window
    rng = random.Random(document.fingerprint)
    rows = (
        row for row in read_predictions(context.store, spec.family, since, until) if _counts(row, inputs["champion"])
    )
    live, n_live = reservoir(rows, MAX_ROWS, rng)
    if n_live < rules.drift_min_requests:
        answered = f"{n_live} live requests were answered by {version} since {since:%Y-%m-%d %H:%M}"
        return {**_nothing(n_live), "why": f"{answered}, {rules.drift_min_requests} are needed"}
    champion = find_version(open_database(context.settings.database_url), spec.family, version)
    answers, known = _reference(context, champion)
    reference, _ = reservoir(answers, MAX_ROWS, rng)
    tables = columns_of(reference, known), columns_of(live, known)
    columns = compare(*tables, seed=int(document.fingerprint[:8], 16))
    drifted = sorted(name for name, found in columns.items() if found["drifted"])
    share = len(drifted) / len(columns) if columns else 0.0
    has_drifted = bool(drifted) and share >= rules.drift_share
    report_key = f"{document.output}/drift.html"
    context.store.put(report_key, _report(*tables, sorted(columns)).encode())
    context.put_json("columns.json", columns)
    moved = ", ".join(f"{name} by {columns[name]['score']:.2f} sd" for name in drifted) or "none"
    return {
        "drifted": has_drifted,
        "share": share,
        "columns": columns,
        "n_live": n_live,
        "n_reference": len(reference),
        "report_key": report_key,
        "why": f"{len(drifted)} of {len(columns)} columns drifted ({moved}) on {n_live} live requests; "
        f"a share of {rules.drift_share:g} asks for a retrain",
        "cause": {"columns": drifted},
    }


def compare(reference: _Columns, live: _Columns, *, seed: int) -> dict[str, dict[str, Any]]:
    """The judgement per column that both sides have."""
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(reference.keys() & live.keys()):
        score = wasserstein(reference[name], live[name])
        noise = chance(reference[name], live[name].size, rng)
        found[name] = {
            "score": score,
            "threshold": THRESHOLD,
            "chance": noise,
            "drifted": bool(score > max(THRESHOLD, noise)),
            "reference_mean": float(reference[name].mean()),
            "live_mean": float(live[name].mean()),
        }
    return found


def columns_of(rows: Iterable[Mapping[str, Any]], known: frozenset[str]) -> dict[str, Floats]:
    """Column -> values of rows with `inputs` and `outputs`."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in features(row["inputs"], row["outputs"], known).items():
            values.setdefault(name, []).append(value)
    return {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}


def reservoir(rows: Iterable[Mapping[str, Any]], size: int, rng: random.Random) -> tuple[list[Mapping[str, Any]], int]:
    """A uniform sample of at most `size` rows, and how many there were (J. Vitter, algorithm R, 1985)."""
    kept: list[Mapping[str, Any]] = []
    count = 0
    for count, row in enumerate(rows, start=1):
        if len(kept) < size:
            kept.append(row)
        elif (place := rng.randrange(count)) < size:
            kept[place] = row
    return kept, count


def _counts(row: Mapping[str, Any], champion: Mapping[str, Any]) -> bool:
    """Whether a logged row is an answer of the champion to live traffic."""
    answered = row.get("error") is None and isinstance(row.get("outputs"), Mapping)
    return answered and not row["shadow"] and not row.get("direct") and row["digest"] == champion["digest"]


def _reference(context: StepContext, champion: ModelVersion) -> tuple[Iterator[dict[str, Any]], frozenset[str]]:
    """What the champion answered on its test split, and the words of its training split."""
    document, store = context.document, context.store
    spec = document.model_spec
    dataset = open_dataset(context.settings, spec.family, champion.dataset_version)
    family = load_code(spec.code)
    key = champion.record.get("answers_key")
    if not key or not store.exists(key):  # a baseline that serves was never asked for its answers
        folder = fetch(store, spec.family, champion.digest, context.settings.home / "cache" / "packages")
        runtime = load_code(read_package(folder).code).load(folder)
        place = Place(spec.family, dataset.digest, champion.digest, TEST_SPLIT, document.code_version)
        key = save_answers(store, place, family, runtime, dataset)
    known = vocabulary(inputs for _, inputs, _ in family.requests(dataset, _TRAIN_SPLIT))
    return iter(load_answers(store, key)), known


def _nothing(n_live: int) -> dict[str, Any]:
    empty: dict[str, Any] = {"drifted": False, "share": 0.0, "columns": {}, "n_live": n_live, "n_reference": 0}
    return {**empty, "report_key": None, "cause": {}}


def _report(reference: _Columns, live: _Columns, names: list[str]) -> str:
    """Evidently's page on the same columns, with the same distance and threshold."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=names)
    report = Report([ValueDrift(column=name, method="wasserstein", threshold=THRESHOLD) for name in names])
    result = report.run(
        Dataset.from_pandas(_frame(live, names), data_definition=definition),
        Dataset.from_pandas(_frame(reference, names), data_definition=definition),
    )
    page: str = result.get_html_str(as_iframe=False)
    return page


def _frame(columns: _Columns, names: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: pd.Series(columns[name]) for name in names})
