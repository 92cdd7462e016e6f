"""`python -m tests.fakes.three_process fit --run URI`: the training package's command, for `three_frameworks`."""

from __future__ import annotations

import sys

import include.data.datasets
from include.training.command import main
from tests.fakes.three_frameworks import ThreeRows

if __name__ == "__main__":
    include.data.datasets.open_dataset = lambda settings, family, version, fold: ThreeRows(version)  # type: ignore[assignment]
    sys.exit(main("tests.fakes.three_process"))
