# ruff: noqa: TID253 - imported by steps, tasks and commands only
"""What a study holds, for people: as a record, and as one page with Optuna's plots.

The page is one file: it holds its script, and asks nothing of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from include.spec.search import SweepSpec
from include.training.budget import spent
from include.training.choice import pareto_front, ranked
from include.training.repeats import confirmation, repeats_study, to_json
from include.training.study import (
    BUDGET,
    DATASET,
    FAMILY,
    PER_SECOND,
    REPEATS_OF,
    STOPPED,
    SURPLUS,
    SWEEP,
    outcomes,
    trial_facts,
)
from include.training.study_storage import open_storage

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STYLE = """
:root { font: 15px/1.5 system-ui, sans-serif; } body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #8884; vertical-align: top; }
"""


def study_names(url: str) -> list[str]:
    """The sweeps' studies, the newest last; without the repeats, which belong to them."""
    storage = open_storage(url)
    studies = [study for study in storage.get_all_studies() if REPEATS_OF not in study.user_attrs]
    return [study.study_name for study in studies]


def study_record(url: str, study: optuna.Study) -> dict[str, Any]:
    """Everything about a study: objectives, trials, the best, what repeats decided, why it stopped, what it took.

    `best`, `front` and `confirmed` are None where no trial finished; `sweep` is None for a study that is not a sweep's.
    """
    attributes = study.user_attrs
    sweep = SweepSpec.model_validate(attributes[SWEEP]) if SWEEP in attributes else None
    trials = [trial for trial in study.get_trials(deepcopy=False) if SURPLUS not in trial.user_attrs]
    repeats = repeats_study(url, study.study_name)
    seconds = spent([*trial_facts(study), *(trial_facts(repeats) if repeats else [])]).seconds
    price = attributes.get(PER_SECOND)
    states = [trial.state for trial in trials]
    record: dict[str, Any] = {
        "study": study.study_name,
        "family": attributes.get(FAMILY),
        "dataset_version": attributes.get(DATASET),
        "metrics": study.metric_names or [f"value {number}" for number, _ in enumerate(study.directions)],
        "directions": [direction.name.lower() for direction in study.directions],
        "sampler": sweep.sampler if sweep else None,
        "pruner": sweep.pruner if sweep else None,
        "budget": attributes.get(BUDGET),
        "states": {state.name.lower(): states.count(state) for state in TrialState if state in states},
        "stopped": attributes.get(STOPPED),
        "minutes": round(seconds / 60, 3),
        "money": None if price is None else seconds * price,
        "best": None,
        "front": None,
        "confirmed": None,
        "trials": [_trial(trial) for trial in trials],
    }
    found = outcomes(study)
    if sweep and found:
        record["best"] = ranked(found, sweep)[0].trial
        record["front"] = [one.trial for one in pareto_front(found, sweep)] if sweep.second else None
        confirmed = confirmation(url, study, sweep) if repeats else None
        record["confirmed"] = to_json(confirmed, study) if confirmed else None
    return record


def _trial(trial: FrozenTrial) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "values": list(trial.values) if trial.state is TrialState.COMPLETE else None,
        "epochs": trial.last_step,
        "seconds": seconds,
        "retry_of": trial.system_attrs.get("failed_trial"),
        "params": trial.params,
    }


def study_plots(study: optuna.Study) -> dict[str, go.Figure]:
    """Optuna's plots by name; without those that a study with so few trials cannot have."""
    from optuna import visualization as plots

    metrics = study.metric_names or ["value"]
    first: dict[str, Any] = {"target_name": metrics[0]}
    importance = dict(first)
    if len(study.directions) > 1:  # Optuna asks which of them is meant, and takes a low one for a good one
        sign = -1.0 if study.directions[0] is StudyDirection.MAXIMIZE else 1.0
        first["target"] = lambda trial: trial.values[0]
        importance["target"] = lambda trial: sign * trial.values[0]
    makers: dict[str, Callable[[], go.Figure]] = {
        "history": lambda: plots.plot_optimization_history(study, **first),
        "intermediate_values": lambda: plots.plot_intermediate_values(study),
        "parallel_coordinate": lambda: plots.plot_parallel_coordinate(study, **first),
        "importances": lambda: plots.plot_param_importances(study, **importance),
        "timeline": lambda: plots.plot_timeline(study),
    }
    if len(study.directions) > 1:
        del makers["intermediate_values"]
        makers = {"pareto_front": lambda: plots.plot_pareto_front(study, target_names=metrics), **makers}
    found = {}
    for name, make in makers.items():
        try:
            figure = make()
        except (ValueError, RuntimeError):  # of importances: fewer than two trials, or all with the same value
            continue
        if figure.data:
            found[name] = figure
    return found


def study_page(record: dict[str, Any], plots: dict[str, go.Figure]) -> str:
    """The page of a study: its facts, what repeats decided, and its plots."""
    title = f"Study {record['study']}"
    best = next((trial for trial in record["trials"] if trial["trial"] == record["best"]), None)
    ended = ", ".join(f"{count} {state}" for state, count in record["states"].items())
    rows = [
        ("objectives", ", ".join(f"{d} {m}" for m, d in zip(record["metrics"], record["directions"], strict=True))),
        ("sampler, pruner", f"{record['sampler']}, {record['pruner']}"),
        ("trials", f"{ended}; budget {record['budget']}"),
        ("stopped", record["stopped"] or "it has all its trials"),
        ("took", f"{record['minutes']:g} minutes of trials"),
        ("best trial", "none finished" if best is None else f"{best['trial']}: {best['values']} {best['params']}"),
    ]
    confirmed = record["confirmed"]
    if confirmed:
        rows.append(("repeats", f"trial {confirmed['trial']} wins: {confirmed['why']}"))
        rows += [
            (f"trial {row['trial']} again", f"mean {row['mean']}, spread {row['spread']}, n {row['n']}")
            for row in confirmed["repeated"]
        ]
    table = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    figures = "".join(
        figure.to_html(full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(plots.values())
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><table>{table}</table>{figures}</body></html>\n"
    )
