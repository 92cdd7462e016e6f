"""`python -m include.monitoring drift --run URI`."""

from include.steps.entry import main

STEPS = {"drift": "include.monitoring.drift:drift"}

if __name__ == "__main__":
    raise SystemExit(main(STEPS, "include.monitoring"))
