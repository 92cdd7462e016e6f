"""What is not as it should be about a dataset version's quality, and what to do, in plain words. Pure."""

from __future__ import annotations

from include.data.quality import Quality
from include.data.records import LATE, Record
from include.data.sieve import DUPLICATE
from include.spec.quality import QualitySpec


class Alert(Record):
    """A threshold that was not kept.

    Attributes:
        metric: Which one, such as `validation_rate`.
        said: What is wrong, in words.
        advice: What to do.
    """

    metric: str
    value: float
    threshold: float
    said: str
    advice: str


def alerts(quality: Quality, spec: QualitySpec, before: Quality | None = None) -> list[Alert]:
    """Everything that is out of bounds; `before` is the quality of the version before."""
    found = [*_validation(quality, spec, before), *_accuracy(quality, spec), *_coverage(quality)]
    return [*found, *_freshness(quality, spec), *_diversity(quality, spec)]


def _validation(quality: Quality, spec: QualitySpec, before: Quality | None) -> list[Alert]:
    if quality.validation_rate >= spec.validation_rate:
        return []
    broken = {reason: rows for reason, rows in quality.reasons.items() if reason not in {DUPLICATE, LATE}}
    worst = sorted(broken.items(), key=lambda item: -item[1])[:3]
    reasons = ", ".join(f"{reason} {rows}" for reason, rows in worst) or "none recorded"
    trend = ""
    if before is not None:
        trend = f"; it was {before.validation_rate:.1%} in {before.version}"
    return [
        Alert(
            metric="validation_rate",
            value=quality.validation_rate,
            threshold=spec.validation_rate,
            said=f"{quality.validation_rate:.1%} of the delivered rows are valid, {spec.validation_rate:.0%} are "
            f"asked for{trend}",
            advice=f"most often: {reasons}. See `windtunnel quarantine list {quality.family}`, mend them at the source",
        )
    ]


def _accuracy(quality: Quality, spec: QualitySpec) -> list[Alert]:
    if quality.accuracy is None or quality.accuracy >= spec.accuracy:
        return []
    return [
        Alert(
            metric="accuracy",
            value=quality.accuracy,
            threshold=spec.accuracy,
            said=f"{quality.accuracy:.1%} agree with the benchmark ({quality.accuracy_why}), {spec.accuracy:.0%} are "
            "asked for",
            advice="look at the rows that differ: either their source is wrong, or the benchmark is out of date",
        )
    ]


def _coverage(quality: Quality) -> list[Alert]:
    return [
        Alert(
            metric=f"coverage of {found.of}",
            value=found.share,
            threshold=found.at_least,
            said=f"{found.by} speaks of {found.share:.1%} of {found.of} ({found.covered} of {found.total}), "
            f"{found.at_least:.0%} are asked for",
            advice=f"collect examples for what is missing, such as {', '.join(found.missing)}",
        )
        for found in quality.coverage
        if found.share < found.at_least
    ]


def _freshness(quality: Quality, spec: QualitySpec) -> list[Alert]:
    ages = (
        ("newest", quality.freshness.newest_days, spec.newest_days, "ask whether the source still delivers"),
        ("median", quality.freshness.median_days, spec.median_days, "collect newer examples, or let old ones go"),
    )
    return [
        Alert(
            metric=f"{name}_days",
            value=days,
            threshold=most,
            said=f"the {'newest' if name == 'newest' else 'middle'} row was {days} days old when the version was "
            f"published, {most} are allowed",
            advice=advice,
        )
        for name, days, most, advice in ages
        if days > most
    ]


def _diversity(quality: Quality, spec: QualitySpec) -> list[Alert]:
    found = quality.diversity
    if found is None or (found.near_duplicates is not None and found.near_duplicates <= spec.near_duplicates):
        return []
    share = 1.0 if found.near_duplicates is None else found.near_duplicates
    said = found.why or f"{share:.1%} of the texts in {found.column} have a near-duplicate"
    return [
        Alert(
            metric="near_duplicates",
            value=share,
            threshold=spec.near_duplicates,
            said=f"{said}; {spec.near_duplicates:.0%} are allowed",
            advice="examples of one mould teach little and flatter the test: drop them at the source, or keep them on "
            "one side with split.leakage",
        )
    ]
