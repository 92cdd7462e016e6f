"""Loads one model package alone and asks it for a while: does it load, does it answer, does it keep memory?

    python -m include.serving.soak FOLDER --seconds 3 < requests.jsonl

Every line on stdin is the inputs of one request; without any, harmless ones are made up. What a package does to this
process it does to no gateway. The last line on stdout is one JSON document; an exit without it says enough.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.errors import FINAL_KINDS, WindtunnelError, clip
from include.families.contract import ModelRuntime, load_code
from include.serving.calls import answer
from include.serving.memory import resident_mb
from include.serving.models import trial_row, warm_up
from include.serving.package import read_package

#: Memory is read at the ends of so many equal parts; in the first of them buffers reach their size.
PARTS = 5


def soak(
    runtime: ModelRuntime,
    requests: Sequence[Mapping[str, Any]],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    memory: Callable[[], float | None] = resident_mb,
) -> dict[str, Any]:
    """Asks one request after the other for so many seconds.

    Args:
        requests: Inputs of real requests, asked over and over; none: made-up ones, no two alike where any text will do.

    Returns:
        `requests` (asked), `refused` (the input's fault), `errors` (the model's fault), `error` (the first of them, or
        empty), `real` (whether they were real requests), `memory_mb` (after each part; empty where unknown).
    """
    asked = refused = errors = 0
    first, grown = "", []
    rows = _rows(runtime, requests)
    started = clock()
    for part in range(PARTS):
        while asked == 0 or clock() - started < seconds * (part + 1) / PARTS:
            asked += 1
            try:
                answer(runtime, {name: [value] for name, value in next(rows).items()}, 1)
            except (Exception, SystemExit) as error:  # model code may raise anything
                if isinstance(error, WindtunnelError) and error.kind in FINAL_KINDS:
                    refused += 1
                    continue
                errors += 1
                first = first or f"{type(error).__name__}: {clip(error, 200)}"
        if (now := memory()) is not None:
            grown.append(round(now, 3))
    counts = {"requests": asked, "refused": refused, "errors": errors, "error": first}
    return {**counts, "real": bool(requests), "memory_mb": grown}


def _rows(runtime: ModelRuntime, requests: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    number = 0
    while True:
        if requests:
            given = requests[number % len(requests)]
            yield {name: given.get(name) for name in runtime.inputs}
        else:
            row = trial_row(runtime, 8 + number % 32)
            takes_any_text = not hasattr(runtime, "example")
            yield {name: _numbered(value, number) if takes_any_text else value for name, value in row.items()}
        number += 1


def _numbered(value: Any, number: int) -> Any:
    return f"{value} {number}" if isinstance(value, str) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 with the JSON document on stdout; whatever loading raises goes to stderr as a traceback."""
    parser = argparse.ArgumentParser(prog="python -m include.serving.soak", description="Tries one model package.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args(argv)
    requests = [json.loads(line) for line in sys.stdin if line.strip()]
    started = time.monotonic()
    runtime = load_code(read_package(arguments.folder).code).load(arguments.folder)
    warm_up(runtime)
    loaded = round(time.monotonic() - started, 3)
    print(json.dumps({"load_seconds": loaded, **soak(runtime, requests, arguments.seconds)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
