"""The dossier as one page for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    link,
    page,
    paragraph,
    section,
    short,
    table,
    verdict,
)
from include.dossier.intervals import interval_plot
from include.dossier.page_origin import origin_sections

_Record = Mapping[str, Any]

#: Version -> where its page is; None where the page stands alone.
Links = Callable[[str], str] | None


def render(found: _Record, links: Links = None, navigation: Html | str = "") -> str:
    """The page of a dossier (`include.dossier.gather.dossier`).

    Args:
        links: Where other versions' pages are; without it their names are plain text.
        navigation: Links that stand above.
    """
    name = f"{found['family']} {found['subject']['name']}"
    return page(
        f"Dossier of {name}",
        navigation,
        element("h1", name),
        _head(found),
        _problems(found),
        _traffic(found),
        *[rollout_section(rollout, links, number) for number, rollout in reversed(list(enumerate(found["rollouts"])))],
        _later(found["later"]),
        _gates(found),
        _quality(found["quality"]),
        *origin_sections(found, links),
        _footer(found),
    )


def version_link(version: str | None, links: Links) -> Any:
    """A version, leading to its dossier where there is one to lead to."""
    return link(links(version), version) if version and links else version


def _head(found: _Record) -> Html:
    standing, version = found["standing"], found["version"]
    since = standing["since"]
    age = f" since {words.moment(since)} UTC ({words.ago(since, found['as_of'])})" if since else ""
    back = f" (goes to {standing['rollback_to']})" if standing["rollback_to"] else ""
    do = [
        joined([code(command), back if command.startswith("windtunnel rollback") else ""]) for command in standing["do"]
    ]
    drill = found["drill"]
    held = f"{words.ago(drill['at'], found['as_of'])} ago: {words.drill(drill)}" if drill else "never held"
    change = f"{version['change']}: {version['change_why']}" if version["change"] else None
    return joined(
        [
            paragraph(f"{standing['headline']}{age}", "lead"),
            facts(
                [
                    ("why", standing["why"]),
                    ("if it is bad", element("div", Html("<br>".join(do))) if do else None),
                    ("kind", f"{found['subject']['kind']}, {version['verdict']}"),
                    ("version number", change),
                    ("last drill", held),
                ]
            ),
        ]
    )


def _problems(found: _Record) -> Html:
    problems = found["problems"]
    if not problems:
        unproven = [one["name"] for one in found["documents"] if one["state"] == "unproven"]
        but = f" Of the {' and the '.join(unproven)} no digest was recorded." if unproven else ""
        good = paragraph("Everything that it rests on is there, and is what was recorded.", "good")
        return joined([good, paragraph(but.strip(), "muted") if but else ""])
    items = element("ul", joined(element("li", problem) for problem in problems))
    return element("div", joined([element("strong", "Not as it should be", class_="bad"), items]), class_="box bad")


def _traffic(found: _Record) -> Html:
    periods = found["traffic"]
    if not periods:
        return section("traffic", "Traffic", paragraph("It never had any.", "muted"))
    rows = [
        (
            words.moment(period["since"]),
            "shadow" if period["shadow"] else words.percent(period["share"]),
            words.role(period),
            words.moment(period["until"]) if period["until"] else "now",
            words.span(period["seconds"]) if period["seconds"] else words.ago(period["since"], found["as_of"]),
            period["generation"],
            period["reason"],
            period["actor"],
        )
        for period in reversed(periods)
    ]
    columns = ["from (UTC)", "share", "as", "until", "for", "generation", "why", "by"]
    now = found["standing"]["share"]
    label = f"{words.percent(now)} of the traffic now"
    return section(
        "traffic",
        "Traffic",
        bar([(found["subject"]["name"], now, "first")], label),
        paragraph(label),
        table("How much of the traffic it had, when, why and by whom", columns, rows, numbers=(1, 4, 5)),
    )


def rollout_section(rollout: _Record, links: Links, number: int) -> Html:
    """One rollout: how it ended, its stages, its error budget, and what people said."""
    ended = f" {words.moment(rollout['ended_at'])} UTC by {rollout['by']}" if rollout["ended_at"] else ""
    check = rollout["load_check"]
    head = facts(
        [
            ("outcome", joined([element("strong", rollout["outcome"]), ended])),
            ("why", rollout["why"]),
            ("against", version_link(rollout["against"], links)),
            ("begun", f"{words.moment(rollout['begun_at'])} UTC by {rollout['actor']}"),
            ("run", rollout["run"]),
            ("load check", joined([verdict(check["verdict"]), " ", "; ".join(check["why"])]) if check else None),
        ]
    )
    title = f"Rollout of {words.moment(rollout['begun_at'])}"
    return section(
        f"rollout-{number}",
        title,
        head,
        stages_table(rollout),
        _reasons(rollout),
        budget(rollout["budget"]),
        said(rollout),
    )


def stages_table(rollout: _Record) -> Html:
    """The stages with what the candidate did, beside the champion."""
    metric = words.guarded(rollout)
    rows = []
    for stage in rollout["stages"]:
        seen, other = stage["candidate"], stage["champion"]
        by = stage["waved_on"]
        rows.append(
            (
                stage["stage"],
                joined([verdict(stage["verdict"]), f" moved on by {by['actor']}: {by['reason']}" if by else ""]),
                words.traffic(stage),
                words.moment(stage["entered_at"]),
                words.span(stage["seconds"]),
                words.errors(seen),
                words.errors(other),
                words.number((seen or {}).get("latency_p95_ms")),
                words.number((other or {}).get("latency_p95_ms")),
                words.quality(seen, metric),
                words.quality(other, metric),
                short(stage["decision"]),
            )
        )
    columns = [
        "stage", "verdict", "traffic", "entered (UTC)", "for", "failed", "champion's", "p95 ms", "champion's",
        f"{metric or 'quality'} (n)", "champion's", "decision",
    ]  # fmt: skip
    caption = "Stages, with what was seen until the verdict"
    return table(caption, columns, rows, numbers=range(4, 11))


def _reasons(rollout: _Record) -> Html:
    rows = [(stage["stage"], "; ".join(stage["why"])) for stage in rollout["stages"] if stage["why"]]
    return (
        folded("Why each verdict fell as it did", table("Checks of each stage", ["stage", "checks"], rows))
        if rows
        else Html("")
    )


def budget(account: _Record) -> Html:
    """The error budget as a bar, and in words."""
    allowed = account["allowed"]
    if allowed is None:
        return paragraph(account["why"], "muted")
    share = account["spent"] / allowed if allowed else float(bool(account["spent"]))
    label = f"{account['spent']} of {allowed} failed requests spent"
    spent = bar([(label, share, "full" if share >= 1 else "first")], label)
    return joined(
        [element("h3", "Error budget"), spent, paragraph(account["why"], "bad" if account["exhausted"] else "")]
    )


def said(rollout: _Record) -> Html:
    """What people said: who, when and why."""
    rows = [
        (words.moment(word["at"]), word["said"] + (f" ({', '.join(word['stages'])})" if word["stages"] else ""),
         word["by"], word["why"])
        for word in rollout["words"]
    ]  # fmt: skip
    return table("What people said", ["when (UTC)", "what", "who", "why"], rows)


def _later(events: Sequence[_Record]) -> Html:
    rows = [
        (words.moment(event["at"]), event["what"] or event["event"].replace("_", " "), event["why"], event["by"])
        for event in reversed(events)
    ]
    if not rows:
        return Html("")
    return section("later", "Also", table("Outside of its rollouts", ["when (UTC)", "what", "why", "by"], rows))


def _gates(found: _Record) -> Html:
    gates = found["gates"]
    if gates is None:
        return section(
            "gates", "Gates", paragraph("No gate was asked: a baseline is there to be compared with.", "muted")
        )
    decision = gates["decision"] or {}
    rows = [
        (
            gate["name"],
            verdict(gate["verdict"]),
            f"{gate['metric']} {gate['asks']}" + ("" if gate["action"] == "fail" else f" ({gate['action']} only)"),
            words.measured(gate),
            interval_plot(gate),
            words.number(gate["n"]),
            words.number(gate["margin"]) if gate.get("reference") else "-",
            words.number(gate["n_needed"]),
        )
        for gate in gates["gates"]
    ]
    columns = ["gate", "verdict", "asked for", "measured", "", "n", "margin", "n that would decide"]
    person = gates["accepted"]
    when = f" ({words.moment(person['at'])} UTC)" if person and person.get("at") else ""
    accepted = f"by {person['actor']}{when}: {person['reason']}" if person else None
    attempt = f"{gates['attempt']} of {gates['max_attempts']}" if gates.get("attempt") else None
    return section(
        "gates",
        "Gates",
        facts(
            [
                ("verdict", verdict(gates["verdict"])),
                ("accepted", accepted),
                ("attempt", attempt),
                ("compared with", gates.get("champion")),
                ("confidence", words.percent(gates.get("confidence")) if gates.get("confidence") else None),
                ("decision", code(decision.get("id"))),
                ("made again by", code(decision.get("replay"))),
            ]
        ),
        table(
            "Gates: differences where they compare, else values; intervals in brackets",
            columns,
            rows,
            numbers=(5, 6, 7),
        ),
    )


def _quality(quality: _Record) -> Html:
    metrics, comparisons = quality["metrics"] or {}, quality["comparisons"] or {}
    champion = (quality["champion"] or {}).get("version")
    others = list(comparisons)
    rows = [
        (name, words.measured(value), words.number(value.get("n")),
         *(words.difference(comparisons[other].get(name)) for other in others))
        for name, value in metrics.items()
        if isinstance(value, Mapping)
    ]  # fmt: skip
    titles = [f"minus {other}{f' {champion}' if other == 'champion' and champion else ''}" for other in others]
    if not rows:
        return Html("")
    measured = table(
        "On the test examples; differences are paired", ["metric", "this model", "n", *titles], rows, numbers=(2,)
    )
    promised = [
        (words.percent(one["target"]), words.number(one["threshold"]), words.percent(one["coverage"]), one["n"])
        for one in quality["selective"] or []
    ]
    columns = ["promised accuracy", "answers from confidence", "share answered", "n"]
    return section(
        "quality", "Measured", measured, table("Answering only when sure", columns, promised, numbers=(1, 2, 3))
    )


def _footer(found: _Record) -> Html:
    return element(
        "footer",
        joined(
            [
                paragraph(f"As of {words.moment(found['as_of'])} UTC. All times are UTC."),
                paragraph(joined(["Digest of this dossier's content: ", code(found["digest"])])),
            ]
        ),
    )
