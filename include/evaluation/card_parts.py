"""Parts of the model card: what changed requests, groups, known cases and the package's content showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from include.spec.probing import HANDLED, UNDER

_Lines = list[str]
_DRIVERS = 10


def further_lines(report: Mapping[str, Any]) -> _Lines:
    """The card's lines on what the spec asked for beyond the test split."""
    return [
        *_robustness(report.get("robustness")),
        *_fairness(report.get("fairness") or {}),
        *_drivers(report.get("interpretability") or {}),
        *_cases(report.get("cases")),
        *_content(report),
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> _Lines:
    """A Markdown table."""
    cells = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in cells]


def cell(record: Mapping[str, Any] | None, value: str = "value") -> str:
    """A measured value with its interval."""
    if record is None:
        return "-"
    shown = f"{record[value]:.4g}"
    return shown if record["low"] == record["high"] else f"{shown} [{record['low']:.4g}, {record['high']:.4g}]"


def _robustness(found: Mapping[str, Any] | None) -> _Lines:
    if found is None or not found["changes"]:
        return []
    rows = []
    for metric, record in found["metrics"].items():
        base, _, change = metric.rpartition(UNDER)
        against = found["against_clean"].get(metric)
        unchanged = found["clean"].get(base)
        before = "-" if unchanged is None else f"{unchanged:.4g}"
        label = "answered or clearly refused" if base == HANDLED else base
        rows.append([change, label, before, cell(record), cell(against, "difference")])
    return [
        "## Changed requests",
        "",
        f"The same {found['n']} requests of the test split, changed; the difference is taken request by request.",
        "",
        *table(["change", "metric", "unchanged", "changed", "difference"], rows),
        "",
    ]


def _fairness(found: Mapping[str, Any]) -> _Lines:
    lines: _Lines = []
    for name, metrics in found.items():
        rows = [
            [metric, cell(gap["gap"]), f"{gap['worst_group']}: {cell(gap['worst'])}", gap["best_group"]]
            for metric, gap in metrics.items()
        ]
        if not rows:
            lines += [f"## Groups by {name}", "", "Too few groups have enough examples to be compared.", ""]
            continue
        any_gap = next(iter(metrics.values()))
        small = f"; {len(any_gap['left_out'])} smaller groups were not compared" if any_gap["left_out"] else ""
        lines += [
            f"## Groups by {name}",
            "",
            f"{len(any_gap['groups'])} groups{small}. Each interval holds for all groups at once.",
            "",
            *table(["metric", "best minus worst", "worst", "best"], rows),
            "",
        ]
    return lines


def _drivers(found: Mapping[str, Any]) -> _Lines:
    importance, answers = found.get("importance") or {}, found.get("answers") or {}
    lines: _Lines = []
    if importance:
        metrics = list(next(iter(importance.values())))
        ordered = sorted(importance.items(), key=lambda pair: -float(pair[1][metrics[0]]["value"]))[:_DRIVERS]
        rows = [[name, *(cell(losses[metric]) for metric in metrics)] for name, losses in ordered]
        lines += ["What is lost where an input is shuffled among the examples:", "", *table(["input", *metrics], rows)]
    if answers:
        parts = [[name, cell(record)] for name, record in answers["parts"].items()]
        terms = ", ".join(f"{term} {weight:.3g}" for term, weight in list(answers["terms"].items())[:_DRIVERS])
        lines += [
            f"What the score of {answers['n']} answers is made of, in the mean:",
            "",
            *table(["part", "share of the score"], parts),
            "",
            f"Words that weigh most: {terms}." if terms else "No word weighs anything.",
        ]
    return ["## What drives the answers", "", *lines, ""] if lines else []


def _cases(found: Mapping[str, Any] | None) -> _Lines:
    if not found:
        return []
    wrong = [f"- `{case['id']}`: {case['found']}; asked for {case['asks']}" for case in found["failed"]]
    said = f"{len(wrong)} of {found['n']} come out wrong:" if wrong else f"All {found['n']} come out right."
    return ["## Known cases", "", said, *wrong, ""]


def _content(report: Mapping[str, Any]) -> _Lines:
    artifact, dependencies = report.get("artifact"), report.get("dependencies")
    lines: _Lines = []
    if artifact:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(artifact["kinds"].items()))
        lines.append(f"- files: {kinds}; looked into, nothing in them runs code")
    if dependencies:
        lines.append(f"- dependencies: {_audit(dependencies)}")
    if (personal := report.get("personal_data")) is not None:
        lines.append(f"- personal data: {_personal(personal)}")
    return ["## What ships", "", *lines, ""] if lines else []


def _audit(found: Mapping[str, Any]) -> str:
    if found["status"] != "audited":
        return f"not audited ({found['why']})"
    names = ", ".join(f"{entry['package']} {entry['version']} ({entry['id']})" for entry in found["vulnerable"])
    return f"audited {found['at'][:10]} against {found['source']}: {names or 'no known vulnerability'}"


def _personal(found: Mapping[str, Any]) -> str:
    if "unknown" in found:
        return f"not looked for ({found['unknown']})"
    places = "; ".join(f"{entry['kind']} in {entry['place']}" for entry in found["found"][:_DRIVERS])
    return (
        f"{found['count']} places in {found['looked']} texts: {places}"
        if found["count"]
        else (f"none found in {found['looked']} texts")
    )
