"""The process in which one model package is measured: `python -m include.evaluation.worker FOLDER`.

It holds one loaded package and nothing else, as a gateway does, so that its memory is the memory of serving it. It
reads one JSON command per line from standard input and answers each with one JSON line:

* `{"op": "predict", "inputs": {...}}` answers a batch and returns `{"ms": ..., "n": ...}`;
* `{"op": "facts"}` returns `{"load_seconds": ..., "peak_mb": ...}` (1 MB is 10^6 bytes).

The clock runs here, around the model call and the making of the answer records: what goes through the pipe is not
counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.families.contract import ModelRuntime, load_code
from include.serving.package import read_package


def main(folder: Path) -> None:
    """Loads the package in `folder` and serves commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    started = time.perf_counter()
    runtime = load_code(read_package(folder).code).load(folder)
    load_seconds = time.perf_counter() - started
    for line in sys.stdin:
        command = json.loads(line)
        if command["op"] == "facts":
            answer: dict[str, Any] = {"load_seconds": load_seconds, "peak_mb": peak_memory_mb()}
        else:
            answer = _predict(runtime, command["inputs"])
        answers.write(json.dumps(answer) + "\n")


def peak_memory_mb() -> float:
    """The most memory this process had resident, MB.

    From `/proc`, because Linux carries `ru_maxrss` over an `exec`: a child of a large process would never look small.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status holds no VmHWM")


def _predict(runtime: ModelRuntime, inputs: Mapping[str, list[Any]]) -> dict[str, Any]:
    count = len(next(iter(inputs.values())))
    started = time.perf_counter()
    outputs = runtime.predict(inputs)
    for index in range(count):
        runtime.answer(outputs, index)
    return {"ms": (time.perf_counter() - started) * 1000.0, "n": count}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
