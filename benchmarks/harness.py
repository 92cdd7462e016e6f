"""Figures, how they are shown, and the machine they were taken on.

A figure is the median over repeats, with the interquartile range as its spread, beside a peer that was measured in the
same run on the same machine, the two taking turns, so that a busy neighbour slows both.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
_MIN_FOR_QUARTILES = 2


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        benchmark: Name of the module that took it.
        figure: What was measured, in words.
        value, spread: Median and interquartile range over `n` repeats.
        peer: What it is compared with; empty where it stands alone.
        paired_ratio, paired_spread: Median and interquartile range of the turns' ratios, where each measured both:
            what slows a turn slows both sides of it, and so the ratio says more than that of the medians.
        note: What a reader must know to read it right.
        detail: It stands in the table of all figures only, not among those that the README shows.
    """

    benchmark: str
    figure: str
    value: float
    spread: float
    n: int
    unit: str = ""
    peer: str = ""
    peer_value: float | None = None
    peer_spread: float | None = None
    note: str = ""
    paired_ratio: float | None = None
    paired_spread: float | None = None
    detail: bool = False

    @property
    def ratio(self) -> float | None:
        """Of the pairs where there are pairs, else value over the peer's value; None without a peer."""
        if self.paired_ratio is not None:
            return self.paired_ratio
        return self.value / self.peer_value if self.peer_value else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Figure:
        """What `to_json` made."""
        return cls(**{name: value for name, value in record.items() if name != "ratio"})


def summarise(
    benchmark: str,
    figure: str,
    values: Sequence[float],
    *,
    unit: str = "",
    peer: str = "",
    peer_values: Sequence[float] = (),
    note: str = "",
    paired: bool = False,
    detail: bool = False,
) -> Figure:
    """The figure of repeated measurements.

    Args:
        paired: `values` and `peer_values` at one position were taken in the same turn.

    Raises:
        ValueError: There is no measurement, or a pair lacks a side.
    """
    if not values:
        raise ValueError(f"{benchmark}: no measurement of {figure!r}")
    ratios = [own / other for own, other in zip(values, peer_values, strict=True)] if paired else []
    return Figure(
        benchmark=benchmark,
        figure=figure,
        value=statistics.median(values),
        spread=_spread(values),
        n=len(values),
        unit=unit,
        peer=peer,
        peer_value=statistics.median(peer_values) if peer_values else None,
        peer_spread=_spread(peer_values) if peer_values else None,
        note=note,
        paired_ratio=statistics.median(ratios) if ratios else None,
        paired_spread=_spread(ratios) if ratios else None,
        detail=detail,
    )


def _spread(values: Sequence[float]) -> float:
    """The interquartile range; 0 for a single value."""
    if len(values) < _MIN_FOR_QUARTILES:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def machine() -> dict[str, Any]:
    """The machine that the figures hold for."""
    import psutil

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(figures: Sequence[Figure], hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as a Markdown table, with the machines under it.

    Args:
        hosts: Benchmark -> the machine that it ran on (`machine`).
    """
    lines = ["| benchmark | figure | Windtunnel | peer | ratio | n |", "|---|---|---|---|---|---|"]
    notes: list[str] = []
    for figure in figures:
        mark = ""
        if figure.note:
            if figure.note not in notes:
                notes.append(figure.note)
            mark = f" [{notes.index(figure.note) + 1}]"
        peer = f"{_value(figure.peer_value, figure.peer_spread, figure.unit)} ({figure.peer})" if figure.peer else ""
        ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
        ratio += f" ± {figure.paired_spread:.2f}" if figure.paired_spread is not None else ""
        own = _value(figure.value, figure.spread, figure.unit)
        lines.append(f"| {figure.benchmark} | {figure.figure}{mark} | {own} | {peer} | {ratio} | {figure.n} |")
    lines += [
        "",
        "Median ± interquartile range over n repeats; own and peer took turns in the same run. A "
        "ratio with a spread is the median of the turns' own ratios.",
    ]
    lines += [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]
    loads: dict[str, list[str]] = {}
    for name, host in hosts.items():
        where = f"{host['processor']}, {host['cores']} cores, {host['memory_gib']} GiB, Python {host['python']}"
        loads.setdefault(where, []).append(f"{name} {host['load_before']}")
    lines += ["", *(f"Machine: {where}; load average before: {', '.join(names)}." for where, names in loads.items())]
    return "\n".join(lines)


def _value(value: float | None, spread: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{_short(value)} ± {_short(spread or 0.0)} {unit}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def replace_between_markers(text: str, inner: str) -> str:
    """`text` with `inner` between the markers.

    Raises:
        ValueError: The markers are not there.
    """
    start, end = text.find(BEGIN), text.find(END)
    if start < 0 or end < start:
        raise ValueError(f"the file has no {BEGIN} ... {END}")
    return f"{text[: start + len(BEGIN)]}\n{inner}\n{text[end:]}"
