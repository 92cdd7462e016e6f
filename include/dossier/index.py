"""What serves in several families at a glance, for who starts from nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from include.dossier import words
from include.dossier.gather import drill_of
from include.dossier.html import element, link, page, paragraph, table
from include.dossier.releases_page import share_bar
from include.dossier.rollouts import under_way
from include.dossier.subject import read_history
from include.dossier.traffic import split_of
from include.settings import Settings

_Record = dict[str, Any]


def index(settings: Settings, families: Sequence[str], *, at: datetime) -> _Record:
    """`as_of`, and `families`: each with `now` (its split, or None), `rollout` (under way, or None) and `drill`."""
    found = []
    for family in families:
        history = read_history(settings, family)
        now = split_of(history.route) if history.route else None
        found.append({"family": family, "now": now, "rollout": under_way(history), "drill": drill_of(history)})
    return {"as_of": at.isoformat(), "families": found}


def render_index(found: Mapping[str, Any], to: Callable[[str], str]) -> str:
    """The page.

    Args:
        to: Family -> where its page is.
    """
    rows = [(link(to(one["family"]), one["family"]), *_cells(one, found["as_of"])) for one in found["families"]]
    columns = ["family", "who answers", "traffic", "since (UTC)", "rollout under way", "last drill"]
    return page(
        "Releases",
        "",
        element("h1", "Releases"),
        table("What serves in every family", columns, rows)
        if rows
        else paragraph("There is no family whose releases you may see.", "muted"),
        element("footer", paragraph(f"As of {words.moment(found['as_of'])} UTC.")),
    )


def _cells(one: Mapping[str, Any], now: str) -> tuple[Any, ...]:
    split, rollout, drill = one["now"], one["rollout"], one["drill"]
    held = f"{words.ago(drill['at'], now)} ago, {drill.get('outcome', 'held')}" if drill else "never"
    steps = "none"
    if rollout is not None:
        entered = [stage["stage"] for stage in rollout["stages"] if stage["entered_at"]]
        steps = f"{rollout['version']}, {entered[-1] if entered else 'before its first stage'}"
    if split is None:
        return "nothing", "-", "-", steps, held
    answers = ", ".join(
        f"{one['version']} {'shadow' if one['shadow'] else words.percent(one['share'])}" for one in split["variants"]
    )
    return answers, share_bar(split), words.moment(split["since"]), steps, held
