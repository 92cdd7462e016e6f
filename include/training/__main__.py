"""`python -m include.training fit --run URI` and `python -m include.training sweep --run URI`."""

from include.training.command import main

raise SystemExit(main("include.training"))
