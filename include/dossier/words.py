"""How the values of a dossier read, the same in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def moment(text: str | None) -> str:
    """`2026-11-21 11:38` (UTC); `-` for none."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}" if text else "-"


def span(seconds: float | None) -> str:
    """`45 s`, `12 min`, `8.5 h`, `3 days`; `-` for none."""
    if seconds is None:
        return "-"
    for limit, unit, name in ((90.0, 1.0, "s"), (90 * _MINUTE, _MINUTE, "min"), (2 * _DAY, _HOUR, "h")):
        if seconds < limit:
            value = seconds / unit
            return (
                f"{value:.1f} {name}" if value < 10 and name != "min" and value != int(value) else f"{value:.0f} {name}"
            )
    return f"{seconds / _DAY:.0f} days"


def ago(text: str | None, now: str) -> str:
    """How long before `now` that was, as `span` says it."""
    if not text:
        return "-"
    return span(max(0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(text)).total_seconds()))


def percent(share: float | None, digits: int = 0) -> str:
    """`5%`; a share between two whole percents keeps a digit; `-` for none."""
    if share is None:
        return "-"
    value = share * 100
    return f"{value:.{digits}f}%" if abs(value - round(value)) < 1e-9 or digits else f"{value:.1f}%"


def number(value: Any) -> str:
    """A number with four digits, whole ones with separators; `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def measured(record: Mapping[str, Any] | None, value: str = "value") -> str:
    """`0.861 [0.83, 0.89]`; without the interval where it is one point, `-` where there is nothing."""
    if not record or record.get(value) is None:
        return "-"
    low, high = record.get("low"), record.get("high")
    shown = number(float(record[value]))
    return shown if low is None or low == high else f"{shown} [{number(float(low))}, {number(float(high or 0))}]"


def difference(record: Mapping[str, Any] | None) -> str:
    """`+0.065 [+0.035, +0.097]`: a paired difference; `-` where there is none."""
    if not record or record.get("difference") is None:
        return "-"
    return f"{record['difference']:+.4g} [{record['low']:+.4g}, {record['high']:+.4g}]"


def traffic(stage: Mapping[str, Any]) -> str:
    """`5%`, or `shadow`."""
    return "shadow" if stage["shadow"] else percent(stage["traffic"])


def role(period: Mapping[str, Any]) -> str:
    """`challenger, canary`: what a version was in the routing table, and in which stage."""
    return ", ".join(filter(None, (period["role"], period["stage"])))


def errors(seen: Mapping[str, Any] | None) -> str:
    """`0 of 145`; `-` where nothing was seen."""
    return (
        f"{number(seen['errors'])} of {number(seen['requests'])}" if seen and seen.get("requests") is not None else "-"
    )


def quality(seen: Mapping[str, Any] | None, metric: str | None) -> str:
    """`0.825 (114)`: the mean of the guarded metric and its labels; `-` where there are none."""
    found = ((seen or {}).get("quality") or {}).get(metric)
    return f"{found['mean']:.3f} ({found['n']})" if found else "-"


def guarded(rollout: Mapping[str, Any]) -> str | None:
    """The labelled metric that the rollout's guardrails watch; where no plan was kept, the first that was labelled."""
    metric = ((rollout.get("plan") or {}).get("guardrails") or {}).get("quality_metric")
    seen = (name for stage in rollout["stages"] for name in (stage["candidate"] or {}).get("quality") or {})
    return metric or next(seen, None)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 stage`, `2 stages`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def lost(work: Mapping[str, Any] | None) -> str:
    """How much of a training had to be done again; empty where nothing was."""
    if not work or not work.get("steps"):
        return ""
    seconds = f" ({span(float(work['seconds']))})" if work.get("seconds") is not None else ""
    return f"{plural(int(work['steps']), 'step')}{seconds} done again"


def drill(record: Mapping[str, Any]) -> str:
    """`wrong: stopped at canary in 12 s, recovered in 3 s`."""
    parts = [f"{record.get('fault', 'a bad model')}: {record.get('outcome', 'held')}"]
    if record.get("stopped_at"):
        parts[0] += f" at {record['stopped_at']}"
    for key, words in (("detect_seconds", "found in"), ("recover_seconds", "recovered in")):
        if record.get(key) is not None:
            parts.append(f"{words} {span(float(record[key]))}")
    return ", ".join(parts)
