"""The quality of a family's data over its versions as one self-contained HTML page: no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from include.data.quality import Quality
from include.data.quality_alerts import Alert
from include.spec.quality import QualitySpec

_WIDTH, _HEIGHT, _LEFT, _TOP = 460, 180, 46, 12
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; } figcaption { font-weight: 600; }
.ok { color: #1a7f37; } .bad { color: #cf222e; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; } svg .line { fill: none; stroke: #0969da; }
svg .point { fill: #0969da; } svg .limit { stroke: #cf222e; stroke-dasharray: 4 3; } svg .axis { stroke: #8888; }
"""

_Points = Sequence[tuple[str, float | None]]


def render(family: str, qualities: Sequence[Quality], alerts: Sequence[Alert], spec: QualitySpec) -> str:
    """The page.

    Args:
        qualities: Of all versions, the oldest first; the last one is what `alerts` are about.
    """
    newest = qualities[-1]
    title = f"Quality of the data of {family}"
    plots = "".join(_plot(*plot) for plot in _plots(qualities, spec))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{_alerts(newest, alerts)}"
        f'<div class="plots">{plots}</div>{_table(qualities)}</body></html>\n'
    )


def _plots(qualities: Sequence[Quality], spec: QualitySpec) -> list[tuple[str, _Points, float | None]]:
    """Title, values by version, limit."""
    names = [quality.version for quality in qualities]

    def over(values: Sequence[float | None]) -> _Points:
        return list(zip(names, values, strict=True))

    found: list[tuple[str, _Points, float | None]] = [
        ("Validation rate", over([quality.validation_rate for quality in qualities]), spec.validation_rate),
        ("Rows", over([quality.rows for quality in qualities]), None),
        ("Age of the newest row (days)", over([q.freshness.newest_days for q in qualities]), spec.newest_days),
        ("Age of the middle row (days)", over([q.freshness.median_days for q in qualities]), spec.median_days),
    ]
    for rule in spec.coverage:
        shares = [
            next((found.share for found in q.coverage if (found.of, found.by) == (rule.of, rule.by)), None)
            for q in qualities
        ]
        found.append((f"{rule.by} speaks of {rule.of}", over(shares), rule.at_least))
    for name in dict.fromkeys(domains.slice for quality in qualities for domains in quality.domains):
        values = [next((d.evenness for d in q.domains if d.slice == name), None) for q in qualities]
        found.append((f"Evenness of {name}", over(values), None))
    if any(quality.diversity for quality in qualities):
        near = [q.diversity.near_duplicates if q.diversity else None for q in qualities]
        pairs = [q.diversity.distinct_pairs if q.diversity else None for q in qualities]
        found.append(("Texts with a near-duplicate", over(near), spec.near_duplicates))
        found.append(("Different word pairs", over(pairs), None))
    if any(quality.accuracy is not None for quality in qualities):
        found.append(("Accuracy", over([quality.accuracy for quality in qualities]), spec.accuracy))
    return found


def _plot(title: str, points: _Points, limit: float | None) -> str:
    """A line over versions; a version without a value leaves a gap."""
    values = [value for _, value in points if value is not None]
    if not values:
        return ""
    shown = [*values, *([limit] if limit is not None else [])]
    low, high = min(shown), max(shown)
    pad = (high - low) * 0.1 or max(abs(high) * 0.1, 0.1)
    low, high = low - pad, high + pad
    step = (_WIDTH - _LEFT - 10) / max(1, len(points) - 1)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - 30)

    places = [(_LEFT + number * step, value, name) for number, (name, value) in enumerate(points)]
    marks = "".join(
        f'<circle class="point" cx="{x:.1f}" cy="{y(value):.1f}" r="3">'
        f"<title>{escape(name)}: {_number(value)}</title></circle>"
        for x, value, name in places
        if value is not None
    )
    every = -(-len(places) // 8)
    labels = "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(name)}</text>'
        for x, _, name in places[::every]
    )
    ends = "".join(
        f'<text x="{_LEFT - 4}" y="{y(v) + 4:.1f}" text-anchor="end">{_number(v)}</text>' for v in _ends(values)
    )
    bound = ""
    if limit is not None:
        bound = f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>'
    axis = f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{_HEIGHT - 24}" y2="{_HEIGHT - 24}"/>'
    lines = "".join(
        f'<polyline class="line" points="{" ".join(f"{x:.1f},{y(value):.1f}" for x, value in run)}"/>'
        for run in _runs([(x, value) for x, value, _ in places])
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{axis}{bound}{lines}{marks}{labels}{ends}</svg></figure>'
    )


def _runs(places: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Neighbouring points that have a value."""
    found: list[list[tuple[float, float]]] = [[]]
    for x, value in places:
        if value is None:
            found.append([])
        else:
            found[-1].append((x, value))
    return [run for run in found if len(run) > 1]


def _ends(values: Sequence[float]) -> list[float]:
    return sorted({min(values), max(values)})


def _alerts(newest: Quality, alerts: Sequence[Alert]) -> str:
    if not alerts:
        return f'<p class="ok">Version {escape(newest.version)} keeps every threshold.</p>'
    lines = "".join(
        f"<li><span class=bad>{escape(alert.said)}.</span> {escape(alert.advice)}.</li>" for alert in alerts
    )
    return f"<p>Version {escape(newest.version)}:</p><ul>{lines}</ul>"


def _table(qualities: Sequence[Quality]) -> str:
    head = (
        "<tr><th>version</th><th>published</th><th class=n>rows</th><th class=n>valid</th><th class=n>coverage</th>"
        "<th class=n>newest, middle (days)</th><th class=n>near-duplicates</th><th>accuracy</th></tr>"
    )
    lines = "".join(
        f"<tr><td>{escape(quality.version)}</td><td>{quality.published_at:%Y-%m-%d %H:%M}</td>"
        f"<td class=n>{quality.rows}</td><td class=n>{quality.validation_rate:.1%}</td>"
        f"<td class=n>{', '.join(f'{found.share:.1%}' for found in quality.coverage)}</td>"
        f"<td class=n>{quality.freshness.newest_days}, {quality.freshness.median_days}</td>"
        f"<td class=n>{_share(quality.diversity.near_duplicates if quality.diversity else None)}</td>"
        f"<td>{_accuracy(quality)}</td></tr>"
        for quality in reversed(qualities)
    )
    return f"<table>{head}{lines}</table>"


def _accuracy(quality: Quality) -> str:
    return f"{quality.accuracy:.1%}" if quality.accuracy is not None else f"n/a: {escape(quality.accuracy_why)}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
