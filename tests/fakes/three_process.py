"""`python -m tests.fakes.three_process fit --run URI`: the training package's command, for `three_frameworks`."""

from __future__ import annotations

import sys

from include.training.command import main
from tests.fakes import datasets
from tests.fakes.three_frameworks import ThreeRows

if __name__ == "__main__":
    datasets.serve(lambda family, version: ThreeRows(version))
    sys.exit(main("tests.fakes.three_process"))
