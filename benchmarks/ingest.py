"""Ingest, validation and versioning of a large file beside pandas and Great Expectations used plainly.

Each side runs in a process of its own, taking turns: ours through the real steps (every row accounted for, quarantined
with its reason, known keys and contents looked up, written to Delta Lake, named by its content), the peer as one would
write it in an afternoon (see `benchmarks.ingest_worker`). The peer gets the file without the lines that pandas stops
at, and holds all of it in memory: it is measured on the smaller size only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, summarise
from benchmarks.orders import write_orders
from include.settings import PROJECT_ROOT

SMALL, LARGE = 1_000_000, 10_000_000
QUICK = (20_000, 100_000)
PEER = "pandas + Great Expectations"
_NOTE = (
    "JSON lines of seven columns, one row in forty faulty, to a named version; one process per turn, its start "
    "included. The peer reads the whole file (without the lines it would stop at), runs the same suite once and writes "
    "the rows that pass as Parquet; it keeps no quarantine, no known keys and no version."
)


@dataclass(frozen=True)
class Turn:
    """One process: rows that came in, seconds on the wall, and the most memory that it held (MiB)."""

    rows: int
    seconds: float
    peak: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def run(quick: bool) -> list[Figure]:
    """Rows per second and peak memory at both sizes, and how both grow between them."""
    small, large = QUICK if quick else (SMALL, LARGE)
    with tempfile.TemporaryDirectory(prefix="windtunnel-ingest-", dir=_scratch()) as name:
        folder = Path(name)
        hostile, readable = folder / "small" / "orders.jsonl", folder / "readable" / "orders.jsonl"
        write_orders(hostile, small)
        write_orders(readable, small, unreadable=False)
        own: list[Any] = []
        peer: list[Any] = []
        for repeat in range(1 if quick else 3):
            for side in ("own", "plain") if repeat % 2 else ("plain", "own"):
                (own if side == "own" else peer).append(_turn(side, hostile if side == "own" else readable, folder))
        write_orders(folder / "large" / "orders.jsonl", large)
        long = _turn("own", folder / "large" / "orders.jsonl", folder)
    return [
        *_beside_peer(small, own, peer),
        *_growth(small, large, own, long),
    ]


def _beside_peer(rows: int, own: list[Turn], peer: list[Turn]) -> list[Figure]:
    shared: dict[str, Any] = {"peer": PEER, "note": _NOTE}
    return [
        summarise(
            "ingest",
            f"rows per second, {rows:,} rows",
            [turn.rate for turn in own],
            unit="1/s",
            peer_values=[turn.rate for turn in peer],
            **shared,
        ),
        summarise(
            "ingest",
            f"peak memory, {rows:,} rows",
            [turn.peak for turn in own],
            unit="MiB",
            peer_values=[turn.peak for turn in peer],
            **shared,
        ),
    ]


def _growth(small: int, large: int, own: list[Turn], long: Turn) -> list[Figure]:
    """The large size beside our own small one."""
    peer = f"{small:,} rows"
    return [
        summarise(
            "ingest",
            f"rows per second, {large:,} rows",
            [long.rate],
            unit="1/s",
            peer=peer,
            peer_values=[turn.rate for turn in own],
            note=_NOTE,
        ),
        summarise(
            "ingest",
            f"peak memory, {large:,} rows",
            [long.peak],
            unit="MiB",
            peer=peer,
            peer_values=[turn.peak for turn in own],
            note=_NOTE,
        ),
    ]


def _turn(side: str, file: Path, folder: Path) -> Turn:
    """Runs one side on a file, in an empty home.

    Raises:
        RuntimeError: Its process failed, or did not account for every row.
    """
    home = folder / f"home-{side}"
    shutil.rmtree(home, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.ingest_worker", side, str(file), str(home)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "TMPDIR": str(folder), "WINDTUNNEL_HOME": str(home)}
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} failed on {file}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{side} {file.parent.name}: {json.dumps(found)}", file=sys.stderr, flush=True)
    totals = found.get("totals")
    if totals and totals["rows_in"] != sum(totals[f"rows_{part}"] for part in ("clean", "quarantined", "duplicate")):
        raise RuntimeError(f"rows went missing: {totals}")
    return Turn(found["rows"], found["seconds"], found["peak_mib"])


def _scratch() -> Path:
    folder = PROJECT_ROOT / ".windtunnel" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
