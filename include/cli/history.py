"""`windtunnel history` and `compare`: who answered how much at any time, and two versions side by side."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.dossier import words
from include.errors import UserError


def history(arguments: argparse.Namespace, out: Output) -> int:
    """Who answered how much, the newest first; with --at what held at one moment."""
    from include.dossier.subject import read_history
    from include.dossier.traffic import traffic_of

    family, settings = chosen_family(arguments.family), live_settings()
    if arguments.at:
        return _at(settings.database_url, family, arguments.at, out)
    found = read_history(settings, family)
    periods = traffic_of(found.routes, None)[::-1][: arguments.limit]
    if out.as_json:
        out.document(periods)
        return 0
    now = datetime.now(UTC).isoformat()
    rows = [
        (
            words.moment(period["since"]),
            words.moment(period["until"]) if period["until"] else "now",
            words.span(period["seconds"]) if period["until"] else words.ago(period["since"], now),
            period["version"],
            "shadow" if period["shadow"] else words.percent(period["share"]),
            words.role(period),
            period["reason"],
            period["actor"],
        )
        for period in periods
    ]
    columns = ["from (UTC)", "until", "for", "version", "traffic", "as", "why", "by"]
    out.table(columns, rows, empty=f"nothing has served in {family} yet")
    return 0


def _at(database_url: str, family: str, text: str, out: Output) -> int:
    from include.dossier.traffic import split_of
    from include.release.ledger import Ledger
    from include.store.database import open_database

    moment = parse_moment(text, datetime.now(UTC))
    route = Ledger(open_database(database_url)).served_at(family, moment)
    split = split_of(route) if route else None
    if out.as_json:
        out.document({"family": family, "at": moment.isoformat(), "served": split})
        return 0
    if split is None:
        out.line(f"nothing served in {family} at {moment:%Y-%m-%d %H:%M:%S} UTC yet")
        return 0
    out.line(f"{family} at {moment:%Y-%m-%d %H:%M:%S} UTC (generation {split['generation']})", style="bold")
    out.table(
        ["version", "traffic", "as", "model"],
        [
            (
                one["version"],
                "shadow" if one["shadow"] else words.percent(one["share"]),
                one["role"],
                one["digest"][:12],
            )
            for one in split["variants"]
        ],
    )
    out.line(f"since {words.moment(split['since'])} UTC by {split['actor']}: {split['reason']}")
    return 0


def parse_moment(text: str, now: datetime) -> datetime:
    """A moment in ISO 8601; UTC where it names no zone.

    Raises:
        UserError: It is none, or lies in the future.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{text!r} is no moment", where="--at", hint="such as 2026-11-02T09:30, in UTC unless it says otherwise"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment > now:
        raise UserError(f"{text} lies in the future", where="--at", hint="`windtunnel status` shows what serves now")
    return moment


def compare(arguments: argparse.Namespace, out: Output) -> int:
    """What differs between two versions, and what was measured of the difference."""
    from include.dossier.compare import compare as held_together
    from include.dossier.subject import read_history

    family = chosen_family(arguments.family)
    found = held_together(read_history(live_settings(), family), arguments.first, arguments.second)
    if out.as_json:
        out.document(found)
        return 0
    rows = [
        (row["what"], *(_cell(row["what"], row[side]) for side in ("first", "second")))
        for row in found["rows"]
        if not row["same"]
    ]
    out.table([family, found["first"], found["second"]], rows, empty="they differ in nothing")
    same = [row["what"] for row in found["rows"] if row["same"] and row["first"] is not None]
    if same:
        out.line(f"the same in both: {', '.join(same)}", style="dim")
    out.line()
    paired = found["paired"] or {}
    measured = [
        (
            metric["metric"],
            words.measured(metric["first"]),
            words.measured(metric["second"]),
            words.difference(paired.get(metric["metric"])),
        )
        for metric in found["metrics"]
    ]
    out.table(["metric", found["first"], found["second"], "difference"], measured, empty="neither has metrics")
    out.line(f"differences are paired: {found['met']}" if paired else found["met"])
    if measured and not found["same_data"]:
        out.line("each was measured on the test examples of its own dataset version", style="yellow")
    return 0


def _cell(what: str, value: Any) -> str:
    if what == "model digest":
        return str(value)[:12]
    return words.moment(value) if what == "registered" else words.number(value)
