"""The releases of a family as one page for people, with a link to every dossier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.dossier import words
from include.dossier.html import (
    Html,
    bar,
    code,
    element,
    facts,
    folded,
    joined,
    page,
    paragraph,
    section,
    table,
    text,
    verdict,
)
from include.dossier.page import Links, budget, said, stages_table, version_link

_Record = Mapping[str, Any]

_SHOWN = 20


def render_releases(found: _Record, links: Links = None, navigation: Html | str = "") -> str:
    """The page of `include.dossier.releases.releases`; arguments as `include.dossier.page.render`."""
    return page(
        f"Releases of {found['family']}",
        navigation,
        element("h1", f"Releases of {found['family']}"),
        _now(found, links),
        _rollout(found, links),
        _versions(found, links),
        _refused(found, links),
        _history(found, links),
        element("footer", paragraph(f"As of {words.moment(found['as_of'])} UTC. All times are UTC.")),
    )


def share_bar(split: _Record) -> Html:
    """Who answers how much, as a bar; in words for who cannot see it."""
    variants = split["variants"]
    label = ", ".join(f"{one['version']} {words.percent(one['share'])}" for one in variants)
    parts = [(one["version"], one["share"], "first" if index == 0 else "") for index, one in enumerate(variants)]
    return bar(parts, label)


def _now(found: _Record, links: Links) -> Html:
    split, drill = found["now"], found["drill"]
    held = f"{words.ago(drill['at'], found['as_of'])} ago: {words.drill(drill)}" if drill else "never held"
    if split is None:
        return section("now", "Now", paragraph("Nothing serves yet.", "muted"), facts([("last drill", held)]))
    rows = [
        (
            version_link(one["version"], links),
            "shadow" if one["shadow"] else words.percent(one["share"]),
            one["role"],
            code(one["digest"][:12]),
        )
        for one in split["variants"]
    ]
    family = found["family"]
    back = found["rollback_to"]
    if found["rollout"]:
        command = f"windtunnel rollout abort {family} --reason ..."
    else:
        command = f"windtunnel rollback {family} --reason ..." if back else ""
    return section(
        "now",
        "Now",
        share_bar(split),
        table("Who answers how much", ["version", "share", "as", "model"], rows, numbers=(1,)),
        facts(
            [
                ("since", f"{words.moment(split['since'])} UTC ({words.ago(split['since'], found['as_of'])})"),
                ("why", split["reason"]),
                ("by", split["actor"]),
                ("generation", words.number(split["generation"])),
                ("if it is bad", joined([code(command), f" (goes to {back})" if back else ""]) if command else None),
                ("last drill", held),
            ]
        ),
    )


def _rollout(found: _Record, links: Links) -> Html:
    rollout = found["rollout"]
    if rollout is None:
        return section("rollout", "Rollout", paragraph("None is under way.", "muted"))
    seen = rollout["now"]
    entered = [stage["stage"] for stage in rollout["stages"] if stage["entered_at"]]
    return section(
        "rollout",
        "Rollout under way",
        facts(
            [
                ("candidate", version_link(rollout["version"], links)),
                ("against", version_link(rollout["against"], links)),
                ("begun", f"{words.moment(rollout['begun_at'])} UTC by {rollout['actor']}"),
                ("stage", entered[-1] if entered else "before its first"),
            ]
        ),
        _so_far(seen) if seen else "",
        budget((seen or {}).get("budget") or rollout["budget"]),
        stages_table(rollout),
        said(rollout),
    )


def _so_far(seen: _Record) -> Html:
    if "unreachable" in seen:
        return paragraph(f"How it does at this moment cannot be told: {seen['unreachable']}", "warn")
    state = "goes on" if seen["wait"] else "is about to end"
    lines = element("ul", joined(element("li", why) for why in seen["why"]))
    told = joined([f"Stage {seen['stage']}, {words.span(seen['seconds'])} so far: {state}, ", verdict(seen["verdict"])])
    return element("div", joined([told, lines]), class_="box")


def _versions(found: _Record, links: Links) -> Html:
    rows = [
        (
            version_link(row["version"], links),
            _standing(row["standing"]),
            verdict(row["verdict"]) if row["kind"] == "candidate" else row["kind"],
            text(f"{row['change']}: {row['change_why']}" if row["change"] else "-"),
            row["dataset_version"],
            words.moment(row["registered_at"]),
            row["standing"]["why"],
        )
        for row in found["versions"]
    ]
    if not rows:
        return section("versions", "Versions", paragraph("None was registered yet.", "muted"))
    columns = ["version", "stands", "gates", "number", "data", "registered (UTC)", "why it stands there"]
    return section("versions", "Versions", _folded(table("Every version, the newest first", columns, rows), len(rows)))


def _standing(standing: _Record) -> Html:
    class_ = {"serving": "good", "rolled back": "bad", "rejected": "bad", "refused": "bad"}.get(standing["state"], "")
    shown = element("span", standing["headline"], **({"class_": class_} if class_ else {}))
    return joined([shown, f" ({words.moment(standing['since'])})" if standing["since"] else ""])


def _refused(found: _Record, links: Links) -> Html:
    rows = [
        (
            version_link(row["name"], links),
            verdict(row["verdict"]),
            row["dataset_version"],
            words.moment(row["registered_at"]),
            row["standing"]["why"],
        )
        for row in found["refused"]
    ]
    if not rows:
        return Html("")
    shown = table(
        "Candidates that became no version, the newest first", ["model", "verdict", "data", "when (UTC)", "why"], rows
    )
    return section("refused", "Refused by the gates", _folded(shown, len(rows)))


def _history(found: _Record, links: Links) -> Html:
    rows = [
        (
            words.moment(period["since"]),
            version_link(period["version"], links),
            "shadow" if period["shadow"] else words.percent(period["share"]),
            words.role(period),
            words.span(period["seconds"]) if period["until"] else "still",
            period["generation"],
            period["reason"],
            period["actor"],
        )
        for period in found["history"]
    ]
    if not rows:
        return Html("")
    columns = ["from (UTC)", "version", "share", "as", "for", "generation", "why", "by"]
    shown = table("Who answered how much, the newest first", columns, rows, numbers=(2, 4, 5))
    return section("history", "History of the traffic", _folded(shown, len(rows)))


def _folded(shown: Html, rows: int) -> Html:
    return folded(f"{rows} lines", shown) if rows > _SHOWN else shown
