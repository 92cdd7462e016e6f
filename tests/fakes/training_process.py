"""`python -m tests.fakes.training_process fit --run URI`: the training package's command, on small data sets."""

from __future__ import annotations

import sys

import pyarrow.compute  # noqa: F401 - SmallRulebook filters with it

from include.training.command import main
from tests.fakes import datasets
from tests.fakes.small_rulebook import SmallRulebook
from tests.fakes.wide_family import FAMILY, WideDataset

if __name__ == "__main__":
    datasets.serve(lambda family, version: WideDataset() if family == FAMILY else SmallRulebook(version))
    sys.exit(main("tests.fakes.training_process"))
