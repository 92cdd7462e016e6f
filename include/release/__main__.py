"""`python -m include.release drill --run URI`."""

from include.steps.entry import main

STEPS = {"drill": "include.release.drill.step:run"}

if __name__ == "__main__":
    raise SystemExit(main(STEPS, "include.release"))
