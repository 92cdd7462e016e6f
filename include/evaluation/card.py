"""The model card: the evaluation report as a page for people (M. Mitchell et al., "Model Cards for Model Reporting",
2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from include.evaluation.card_parts import cell, further_lines, table
from include.evaluation.gates import TEST_SPLIT
from include.evaluation.slices import worst_groups
from include.spec.models import FamilySpec
from include.spec.probing import CLEAN

_COSTS = (
    ("latency_p50_ms", "latency p50, ms"),
    ("latency_p95_ms", "latency p95, ms"),
    ("throughput_per_second", "answers per second"),
    ("memory_mb", "peak memory, MB"),
    ("package_mb", "package, MB"),
)


def model_card(spec: FamilySpec, report: Mapping[str, Any]) -> str:
    """Markdown page of `report` (see `include.evaluation.step`)."""
    test = report["splits"][TEST_SPLIT]
    dataset, candidate = report["dataset"], report["candidate"]
    percent = f"{report['confidence'] * 100:g}%"
    quality = report["quality"]
    compared = {name: values for name, values in test["comparisons"].items() if name != CLEAN}
    lines = [
        f"# {spec.title}",
        "",
        spec.description,
        "",
        f"- package: `{candidate['digest']}` ({candidate['bytes'] / 1e6:.1f} MB)",
        f"- dataset: version {dataset['version']} (`{dataset['digest'][:16]}`)",
        f"- code: `{report['code_version']}`",
        f"- owner: {spec.owner.team}",
        "",
        "## Quality on the test split",
        "",
        f"n = {test['n']} examples that were not trained on. Intervals: {percent}, bootstrap over examples",
        f"(BCa, {report['resamples']} resamples, seed {report['seed']}).",
        "",
        *table(
            ["metric", "this model", *test["references"]],
            [
                [metric, cell(test["summary"][metric])]
                + [cell(values.get(metric)) for values in test["references"].values()]
                for metric in quality
            ],
        ),
        "",
        "## Difference on the same examples (this model minus the other)",
        "",
        *table(
            ["metric", *compared],
            [[metric, *(cell(values.get(metric), "difference") for values in compared.values())] for metric in quality],
        ),
        "",
        *_selective_lines(report.get("selective") or ()),
        *_cost_lines(report["performance"]),
        *_slice_lines(test["slices"], quality),
        *further_lines(report),
        "## Limits",
        "",
        "The figures hold for examples like those of the test split. Examples were resampled one by one; those that",
        "share a document resemble each other, so the truth may lie outside of the intervals more often than stated.",
        "",
    ]
    return "\n".join(lines)


def _selective_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    if not found:
        return []
    rows = [
        [
            f"{each['target'] * 100:g}%",
            "none can be promised" if each["threshold"] is None else f"{each['threshold']:.4g}",
            f"{each['coverage']:.1%} [{each['low']:.1%}, {each['high']:.1%}]",
            "-" if each["accuracy"] is None else f"{each['accuracy']:.1%}",
            str(each["n"]),
        ]
        for each in found
    ]
    header = ["promised", "answer from confidence", "questions answered", "right of those", "n"]
    return [
        "## Answering only when sure",
        "",
        f"Each promise holds with {1 - found[0]['delta']:.0%} confidence (Learn then Test, fixed-sequence testing).",
        "",
        *table(header, rows),
        "",
    ]


def _cost_lines(performance: Mapping[str, Any]) -> list[str]:
    models, machine = performance["models"], performance["machine"]
    rows = [[label, *(cell(costs[metric]) for costs in models.values())] for metric, label in _COSTS]
    return [
        "## Cost of serving",
        "",
        f"{performance['requests']} requests each, in turns, one process per model; {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, {machine['architecture']}.",
        "",
        *table(["", *models], rows),
        "",
    ]


def _slice_lines(slices: Mapping[str, Any], quality: list[str]) -> list[str]:
    lines: list[str] = []
    for name, report in slices.items():
        metric = quality[0]
        rows = [
            [group, str(values["n"]), *(cell(values["metrics"][each]) for each in quality)]
            for group, values in worst_groups(report, metric)
        ]
        lines += [f"## Weakest by {name}", "", *table([name, "n", *quality], rows), ""]
    return lines
