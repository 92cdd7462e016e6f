"""`python -m include.training fit --run URI` and `python -m include.training sweep --run URI`."""

from include.steps.entry import main

raise SystemExit(main({"fit": "include.training.fit:fit", "sweep": "include.training.sweep:sweep"}, "include.training"))
