"""`python -m include.evaluation evaluate --run URI`."""

from include.steps.entry import main

STEPS = {"evaluate": "include.evaluation.step:evaluate"}

if __name__ == "__main__":
    raise SystemExit(main(STEPS, "include.evaluation"))
