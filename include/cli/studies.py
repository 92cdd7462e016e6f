"""`windtunnel studies` and `study`: what the sweeps tried, what won and why, and Optuna's dashboard on top of it."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from include.cli.context import live_settings
from include.cli.output import Output, show
from include.errors import UserError

HOST = "127.0.0.1"  # the dashboard has no login, and can delete


def studies(arguments: argparse.Namespace, out: Output) -> int:
    """All sweeps' studies, the newest first; with `--dashboard`, serves them until it is interrupted."""
    url = live_settings().optuna_url
    if arguments.dashboard:
        return _dashboard(url, arguments.port, out)
    records = _records(url, arguments.family)[: arguments.limit]
    if out.as_json:
        out.document([{name: value for name, value in record.items() if name != "trials"} for record in records])
        return 0
    rows = [
        (
            record["study"],
            _states(record),
            _objectives(record),
            _winner(record),
            record["minutes"],
            record["stopped"] or "",
        )
        for record in records
    ]
    columns = ["study", "trials", "objective", "best", "minutes", "stopped because"]
    out.table(columns, rows, empty="there is no study yet: `windtunnel train` makes one")
    return 0


def study(arguments: argparse.Namespace, out: Output) -> int:
    """One study: its trials, the best, what repeats decided, why it stopped, and what it took."""
    from include.training.study import load_study
    from include.training.study_report import study_record

    url = live_settings().optuna_url
    record = study_record(url, load_study(url, _full_name(url, arguments.study)))
    if out.as_json:
        out.document(record)
        return 0
    rows = [
        ("objective", _objectives(record)),
        ("sampler, pruner", f"{record['sampler'] or '-'}, {record['pruner'] or '-'}"),
        ("trials", f"{_states(record)} (budget {show(record['budget'])})"),
        ("stopped because", record["stopped"] or "it has all its trials, or still runs"),
        ("took", f"{record['minutes']:g} minutes of trials{_money(record)}"),
        ("best", _winner(record)),
    ]
    out.table([record["study"], ""], rows)
    out.line()
    names = sorted({name for trial in record["trials"] for name in trial["params"]})
    front = set(record["front"] or [])
    out.table(
        ["trial", "state", *record["metrics"], "epochs", "seconds", *names],
        [_row(trial, record, names, front) for trial in record["trials"]],
        empty="no trial has started",
    )
    if record["confirmed"]:
        _show_repeats(record["confirmed"], out)
    return 0


def _row(trial: Mapping[str, Any], record: Mapping[str, Any], names: Sequence[str], front: set[int]) -> tuple[Any, ...]:
    marks = [
        *(["best"] if trial["trial"] == record["best"] else []),
        *(["front"] if trial["trial"] in front else []),
        *([f"again: {trial['retry_of']}"] if trial["retry_of"] is not None else []),
    ]
    values = trial["values"] or [None] * len(record["metrics"])
    state = trial["state"] + (f" ({', '.join(marks)})" if marks else "")
    params = [trial["params"].get(name) for name in names]
    return (trial["trial"], state, *values, trial["epochs"], trial["seconds"], *params)


def _show_repeats(confirmed: Mapping[str, Any], out: Output) -> None:
    out.line()
    rows = [
        (row["trial"], row["swept"], row["mean"], row["spread"], row["n"], row["diverged"], row["score"])
        for row in confirmed["repeated"]
    ]
    out.table(["trial", "in the sweep", "mean", "spread", "n", "diverged", "score"], rows, title="Trained again")
    changed = "instead of the sweep's best" if confirmed["changed"] else "as in the sweep"
    out.line(f"trial {confirmed['trial']} wins, {changed}: {confirmed['why']}")


def _records(url: str, family: str | None) -> list[dict[str, Any]]:
    from include.training.study import load_study
    from include.training.study_report import study_names, study_record

    found = [study_record(url, load_study(url, name)) for name in reversed(study_names(url))]
    return [record for record in found if family in (None, record["family"])]


def _full_name(url: str, start: str) -> str:
    """The study that is meant by its name or the start of it. Raises `UserError`."""
    from include.training.study_report import study_names

    names = study_names(url)
    found = [name for name in names if name == start] or [name for name in names if name.startswith(start)]
    if len(found) != 1:
        raise UserError(
            f"there is no study {start!r}" if not found else f"{len(found)} studies start with {start!r}",
            hint=f"one of: {', '.join((found or names)[-8:]) or '(there is none)'}",
        )
    return found[0]


def _states(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in record["states"].items()) or "none"


def _objectives(record: Mapping[str, Any]) -> str:
    pairs = zip(record["directions"], record["metrics"], strict=True)
    return ", ".join(f"{direction} {metric}" for direction, metric in pairs)


def _winner(record: Mapping[str, Any]) -> str:
    confirmed = record["confirmed"]
    number = confirmed["trial"] if confirmed else record["best"]
    if number is None:
        return "-"
    values = next(trial["values"] for trial in record["trials"] if trial["trial"] == number)
    return f"trial {number}: {', '.join(show(value) for value in values)}" + (" (repeated)" if confirmed else "")


def _money(record: Mapping[str, Any]) -> str:
    return "" if record["money"] is None else f", {record['money']:.2f} in money"


def _dashboard(url: str, port: int, out: Output) -> int:
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise UserError("optuna-dashboard is not installed", hint="pip install 'windtunnel[dashboard]'")
    from optuna_dashboard import run_server

    from include.training.study_storage import open_storage

    storage = open_storage(url)
    out.line(f"the studies are at http://{HOST}:{port}/dashboard (this machine only; Ctrl-C ends it)")
    try:
        run_server(storage, host=HOST, port=port)
    except OSError as error:
        raise UserError(f"port {port} cannot be used: {error.strerror}", hint="choose another with --port") from error
    return 0
