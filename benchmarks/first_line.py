"""`python -m benchmarks.first_line fit --run URI`: a training step that ends at the first line of its own code.

It reads its run document and opens the store as every step does, and imports what `fit` imports before it trains.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

from include.steps.entry import StepContext, main

_IMPORTS = (
    "mlflow",
    "include.training.fit",
    "include.training.trainer",
    "include.training.worker",
    "include.families.compliance_qa.lightning_parts",
)


def first_line(context: StepContext) -> dict[str, Any]:
    """Outputs: `at`, the clock when the step got to work."""
    for name in _IMPORTS:
        importlib.import_module(name)
    return {"at": time.time()}


if __name__ == "__main__":
    raise SystemExit(main({"fit": "benchmarks.first_line:first_line"}, "benchmarks.first_line"))
