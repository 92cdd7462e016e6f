"""What lines of a log tell about how a run ended.

When one training process dies, the others complain that they lost it, and theirs are the last lines. So the causes are
looked for in the order of `PATTERNS`, each from the end of the log: lost connections come after everything that leads
to them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from include.failures.endings import Ending

#: In order of precedence. Texts are those of the libraries named; versions word them differently.
PATTERNS: tuple[tuple[Ending, re.Pattern[str]], ...] = tuple(
    (ending, re.compile("|".join(patterns)))
    for ending, patterns in (
        (
            Ending.OUT_OF_MEMORY,
            (
                r"CUDA out of memory",  # torch; the exception was RuntimeError before it was OutOfMemoryError
                r"OutOfMemoryError\b",
                r"CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
                r"CUDA error: out of memory|cudaErrorMemoryAllocation",
                r"DefaultCPUAllocator: (can't|not enough memory)",  # torch on the host
                r"^(\w+\.)*(_Array)?MemoryError\b",  # Python, numpy
                r"Unable to allocate .+ for an array",  # numpy
                r"std::bad_alloc",
                r"\[Errno 12\]|Cannot allocate memory",
                r"OOM when allocating tensor|RESOURCE_EXHAUSTED: Out of memory",  # TensorFlow, XLA
                r"workers are out of shared memory|insufficient shared memory \(shm\)",  # torch's DataLoader
                r"ArrowMemoryError|malloc of size \d+ failed",  # Arrow
            ),
        ),
        (
            Ending.NODE_LOST,  # the accelerator is broken: another machine may do
            (
                r"uncorrectable (NVLink|ECC) error",
                r"GPU is lost|fallen off the bus|CUDA error: device-side hardware",
                r"NVRM: Xid .*(48|63|64|79|94|95)\b",
            ),
        ),
        (
            Ending.DIVERGED,
            (
                r"\bDiverged\b|training diverged",
                r"(?i:loss)\b[^\n]{0,30}?(\bis|\bbecame|=|:)\s*(tensor\()?[-+]?(?i:nan|inf|infinity)\b",
                r"returned nan values in its \d+th output",  # torch's anomaly detection
            ),
        ),
        (
            Ending.USER,
            (
                r"^(ModuleNotFoundError|ImportError|SyntaxError|IndentationError): ",
                r"No space left on device",
                r"CUDA driver version is insufficient|no kernel image is available for execution",
            ),
        ),
        (
            Ending.COMMUNICATION,
            (
                r"\bnccl(System|Internal|Remote|UnhandledCuda|InvalidUsage)Error|NCCL (error|WARN .*failed)",
                r"Watchdog caught collective operation timeout",
                r"\bDist(Backend|Network|Store)Error\b",
                r"Rendezvous(Timeout|Connection|Closed|GracefulExit|State)?Error",
                r"GangError: .*lost connection",  # ours
                r"gloo/.*(Connection|Timed out|timed out|Socket|connect|Broken pipe|unreachable)",
                r"Gloo connectFullMesh failed",
                r"Timed out waiting \d+ms for (recv|send) operation",
                r"The (client|server) socket (has failed|has timed out)|c10d.*(timed out|failed to connect)",
                r"watchdog got stuck for \d+ seconds",
            ),
        ),
        (Ending.KILLED, (r"DataLoader worker .* is killed by signal: Killed",)),
    )
)


def cause(lines: Sequence[str]) -> tuple[Ending, str] | None:
    """The ending that the lines tell of, and the line that tells it; None where no line is known."""
    for ending, pattern in PATTERNS:
        for line in reversed(lines):
            if pattern.search(line.strip()):
                return ending, line.strip()
    return None


def last_line(lines: Sequence[str]) -> str:
    """The last line that says anything."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
