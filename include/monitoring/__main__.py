"""`python -m include.monitoring drift --run URI`."""

from include.steps.entry import main

raise SystemExit(main({"drift": "include.monitoring.drift:drift"}, "include.monitoring"))
