"""`windtunnel dossier`: everything about one model version, on one screen, as one JSON document or as one page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.dossier import words
from include.errors import UserError, clip

_SHOWN_GATES = 4
_SHOWN_WORDS = 4
_SHOWN_METRICS = 4

_Record = Mapping[str, Any]


def dossier(arguments: argparse.Namespace, out: Output) -> int:
    """Shows the dossier; with --output also writes it as a page that needs nothing else."""
    from include.dossier.gather import dossier as gather

    family = chosen_family(arguments.family)
    found = gather(live_settings(), family, arguments.version, at=datetime.now(UTC), verify=arguments.verify)
    if arguments.output:
        _write(Path(arguments.output), found)
    if out.as_json:
        out.document(found)
        return 0
    show(found, out)
    if arguments.output:
        out.line(f"written: {arguments.output}")
    return 0


def _write(path: Path, found: _Record) -> None:
    from include.dossier.page import render

    try:
        path.write_text(render(found), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the page: {error.strerror}", where=str(path), hint="name a file in a folder that exists"
        ) from error


def show(found: _Record, out: Output) -> None:
    """The terminal form: one screen, what matters at night first."""
    _head(found, out)
    _rollouts(found, out)
    _proof(found, out)
    _origin(found, out)


def _head(found: _Record, out: Output) -> None:
    standing, subject = found["standing"], found["subject"]
    since = standing["since"]
    when = f" since {words.moment(since)} UTC ({words.ago(since, found['as_of'])})" if since else ""
    style = "bold green" if standing["share"] else "bold"
    out.line(f"{found['family']} {subject['name']}: {standing['headline']}{when}", style=style)
    if standing["why"]:
        _fact(out, "why", clip(standing["why"], 180))
    back = f"   (goes to {standing['rollback_to']})" if standing["rollback_to"] else ""
    for command in standing["do"][:1]:
        _fact(out, "if it is bad", command + back)
    for problem in found["problems"][:6]:
        out.line(f"  ! {problem}", style="bold red")
    if len(found["problems"]) > 6:
        out.line(f"  ! and {len(found['problems']) - 6} more (--json has all)", style="bold red")
    for event in found["later"][-3:]:
        what = event["what"] or event["event"].replace("_", " ")
        _fact(out, what, f"{words.moment(event['at'])} by {event['by']}: {clip(event['why'], 120)}")


def _rollouts(found: _Record, out: Output) -> None:
    rollouts = found["rollouts"]
    for earlier in rollouts[:-1][-2:]:
        text = f"{words.moment(earlier['begun_at'])} {earlier['outcome']}: {clip(earlier['why'], 110)}"
        _fact(out, "earlier rollout", text)
    if not rollouts:
        return
    last = rollouts[-1]
    out.line()
    against = f" against {last['against']}" if last["against"] else ""
    ended = f" {words.moment(last['ended_at'])} by {last['by']}" if last["ended_at"] else ""
    out.line(f"rollout of {words.moment(last['begun_at'])}{against}: {last['outcome']}{ended}", style="bold")
    metric = words.guarded(last)
    rows = [
        (
            stage["stage"],
            words.traffic(stage),
            words.moment(stage["entered_at"])[5:] if stage["entered_at"] else "-",
            words.span(stage["seconds"]),
            words.errors(stage["candidate"]),
            f"{_p95(stage['candidate'])} / {_p95(stage['champion'])}",
            f"{words.quality(stage['candidate'], metric)} / {words.quality(stage['champion'], metric)}",
            (stage["verdict"] or "not judged") + (" (by a person)" if stage["waved_on"] else ""),
        )
        for stage in last["stages"]
    ]
    columns = [
        "stage",
        "traffic",
        "from",
        "for",
        "failed",
        "p95 ms / champion",
        f"{metric or 'quality'} (n) / champion",
    ]
    out.table([*columns, "verdict"], rows)
    for stage in last["stages"]:
        if stage["verdict"] not in {None, "PASS"}:
            out.line(f"  {stage['stage']}: {clip('; '.join(stage['why']), 240)}", style="red")
    if last["load_check"] and last["load_check"]["verdict"] != "PASS":
        out.line(f"  load check: {clip('; '.join(last['load_check']['why']), 240)}", style="red")
    budget = last["budget"]
    out.line(f"  {budget['why']}", style="bold red" if budget["exhausted"] else "")
    for word in last["words"][-_SHOWN_WORDS:]:
        _fact(out, word["said"], f"{words.moment(word['at'])} by {word['by']}: {clip(word['why'], 120)}")


def _proof(found: _Record, out: Output) -> None:
    gates = found["gates"]
    out.line()
    if gates is None:
        _fact(out, "gates", "none were asked" + (": a baseline" if found["subject"]["kind"] == "baseline" else ""))
    else:
        judged = gates["gates"]
        passed = sum(gate["verdict"] == "PASS" for gate in judged)
        replay = f"   {gates['decision']['replay']}" if gates["decision"] else ""
        _fact(out, "gates", f"{gates['verdict']}, {passed} of {words.plural(len(judged), 'gate')} passed{replay}")
        if person := gates["accepted"]:
            _fact(out, "accepted", f"by {person['actor']}: {clip(person['reason'], 150)}")
        open_ = [gate for gate in judged if gate["verdict"] != "PASS"]
        for gate in open_[:_SHOWN_GATES]:
            out.line(f"    {clip(gate['why'], 200)}", style="red" if gate["blocks"] else "yellow")
    comparisons = found["quality"]["comparisons"] or {}
    champion = (found["quality"]["champion"] or {}).get("version")
    for name in ("champion", *(one for one in comparisons if one != "champion")):
        if comparisons.get(name):
            shown = _differences(comparisons[name], judged_metrics(found))
            label = f"than {champion}" if name == "champion" and champion else f"than {name}"
            _fact(out, label, shown)
            break


def judged_metrics(found: _Record) -> list[str]:
    """The metrics that the gates look at, in their order; those of the comparison where no gate was asked."""
    names = [gate["metric"] for gate in (found["gates"] or {}).get("gates") or []]
    return list(dict.fromkeys(names))


def _differences(comparison: _Record, first: list[str]) -> str:
    order = [name for name in first if name in comparison] or list(comparison)
    return ", ".join(f"{name} {words.difference(comparison[name])}" for name in order[:_SHOWN_METRICS])


def _origin(found: _Record, out: Output) -> None:
    version, data, training, search = found["version"], found["data"], found["training"], found["search"]
    if version["change"]:
        _fact(out, "version", f"{version['change']}: {version['change_why']}")
    by = f" by {version['creator']}" if version["creator"] else ""
    size = f", {found['package']['bytes'] / 1e6:.1f} MB" if found["package"]["bytes"] else ""
    state = found["package"]["stored"]["state"]
    code = f"; code {version['code_version']}" if version["code_version"] else ""
    _fact(out, "registered", f"{words.moment(version['registered_at'])}{by}{code}")
    _fact(out, "package", f"{found['subject']['digest'][:16]}{size}, {state}")
    if training:
        failures = f", {words.plural(len(training['failures']), 'try', 'tries')} failed" if training["failures"] else ""
        steps = words.plural(training["steps"], "step") if training["steps"] is not None else "steps not known"
        price = f", {found['cost']['price']}" if found["cost"] and found["cost"].get("money") is not None else ""
        lost = words.lost(training["work_lost"])
        again = f", {lost}" if lost else ""
        _fact(
            out, "trained", f"{training['run'] or 'by a run that nobody wrote down'}: {steps}{failures}{again}{price}"
        )
    if search and search["study"]:
        trials = f", {words.plural(search['trials'], 'trial')}" if search["trials"] is not None else ""
        value = f", {search['metric']} {words.number(search['value'])}" if search["value"] is not None else ""
        _fact(out, "searched", f"{search['study']}{trials}{value}")
    totals = data.get("totals")
    held = f", {totals['rows_quarantined']:,} rows quarantined of {totals['rows_in']:,}" if totals else ""
    sources = ", ".join(data["sources"])
    from_ = f", {words.plural(len(data['deliveries']), 'delivery', 'deliveries')} of {sources}" if sources else ""
    _fact(out, "data", f"{data['version']} ({(data['digest'] or '-')[:12]}, {data['manifest']['state']}){from_}{held}")
    drill = found["drill"]
    told = f"{words.ago(drill['at'], found['as_of'])} ago, {words.drill(drill)}" if drill else "never held"
    _fact(out, "last drill", told)


def _p95(seen: _Record | None) -> str:
    value = (seen or {}).get("latency_p95_ms")
    return words.number(value)


def _fact(out: Output, name: str, text: str) -> None:
    out.line(f"  {name:<15} {text}")
