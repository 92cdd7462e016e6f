"""`windtunnel data quality`: how good the data of each version is, and what to do about it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.errors import UserError

if TYPE_CHECKING:
    from include.data.quality import Quality
    from include.data.quality_alerts import Alert

_COLUMNS = (
    "version", "rows", "valid", "coverage", "newest days", "median days", "near-duplicates", "accuracy", "alerts",
)  # fmt: skip


def quality(arguments: argparse.Namespace, out: Output) -> int:
    """All versions beside each other, or one in full; alerts by the thresholds of today's spec."""
    from include.data.quality_alerts import alerts
    from include.data.quality_store import load_all
    from include.spec import load_any_family
    from include.store.objects import open_store

    family, settings = chosen_family(arguments.family), live_settings()
    spec = load_any_family(family).quality
    every = load_all(settings, open_store(settings.store_url), family)
    pairs = [(entry, alerts(entry, spec, every[number - 1] if number else None)) for number, entry in enumerate(every)]
    if arguments.version is not None:
        pairs = [pair for pair in pairs if pair[0].version == arguments.version]
        if not pairs:
            known = ", ".join(entry.version for entry in every) or "none yet"
            raise UserError(f"dataset {arguments.version} of {family} was not measured", hint=f"measured: {known}")
    if out.as_json:
        found = [_document(entry, raised) for entry, raised in reversed(pairs)]
        out.document(found if arguments.version is None else found[0])
        return 0
    if arguments.version is None:
        rows = [_row(entry, raised) for entry, raised in reversed(pairs)]
        columns = [
            "version",
            "rows",
            "valid",
            "coverage",
            "newest days",
            "median days",
            "near-duplicates",
            "accuracy",
            "alerts",
        ]
        out.table(columns, rows, empty=f"no dataset version of {family} was measured yet")
    else:
        _show(*pairs[0], out)
    return 0


def _document(entry: Quality, raised: list[Alert]) -> dict[str, Any]:
    shares = [{**found.model_dump(mode="json"), "share": found.share} for found in entry.coverage]
    return {
        **entry.model_dump(mode="json"),
        "coverage": shares,
        "alerts": [alert.model_dump(mode="json") for alert in raised],
    }


def _row(entry: Quality, raised: list[Alert]) -> tuple[Any, ...]:
    near = entry.diversity.near_duplicates if entry.diversity else None
    return (
        entry.version,
        entry.rows,
        f"{entry.validation_rate:.1%}",
        ", ".join(f"{found.share:.1%}" for found in entry.coverage),
        entry.freshness.newest_days,
        entry.freshness.median_days,
        "n/a" if near is None else f"{near:.1%}",
        "n/a" if entry.accuracy is None else f"{entry.accuracy:.1%}",
        ", ".join(alert.metric for alert in raised),
    )


def _show(entry: Quality, raised: list[Alert], out: Output) -> None:
    out.line(f"{entry.family} data {entry.version}, published {entry.published_at:%Y-%m-%d %H:%M}", "bold")
    reasons = ", ".join(f"{name} {rows}" for name, rows in entry.reasons.items())
    rows = [
        ("validation rate", f"{entry.validation_rate:.1%}", f"in quarantine: {reasons}" if reasons else ""),
        ("accuracy", "n/a" if entry.accuracy is None else f"{entry.accuracy:.1%}", entry.accuracy_why),
        *(
            (f"coverage of {found.of}", f"{found.share:.1%}", f"{found.covered} of {found.total} by {found.by}")
            for found in entry.coverage
        ),
        *(
            (f"evenness of {found.slice}", f"{found.evenness:.2f}",
             f"{found.values} values, the largest is {found.largest} with {found.largest_share:.1%}")
            for found in entry.domains
        ),
        ("newest row", f"{entry.freshness.newest_days} days", "before the publication"),
        ("middle row", f"{entry.freshness.median_days} days", "before the publication"),
    ]  # fmt: skip
    if found := entry.diversity:
        near = "n/a" if found.near_duplicates is None else f"{found.near_duplicates:.1%}"
        rows += [
            ("different texts", f"{found.distinct:.1%}", f"of {found.measured} in {found.column}"),
            ("with a near-duplicate", near, found.why),
            ("different word pairs", f"{found.distinct_pairs:.1%}", "of the first 20,000"),
        ]
    out.table(["metric", "value", ""], rows)
    out.line()
    for alert in raised:
        out.line(f"{alert.said}", style="bold red")
        out.line(f"  what to do: {alert.advice}")
    if not raised:
        out.line("every threshold is kept", style="green")
