"""`python -m include.evaluation evaluate --run URI`."""

from include.steps.entry import main

raise SystemExit(main({"evaluate": "include.evaluation.step:evaluate"}, "include.evaluation"))
