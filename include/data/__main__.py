"""`python -m include.data ingest|validate|publish --run URI`."""

from include.steps.entry import main

STEPS = {
    "ingest": "include.data.ingest:ingest",
    "validate": "include.data.validate:validate",
    "publish": "include.data.publish:publish",
}

if __name__ == "__main__":
    raise SystemExit(main(STEPS, "include.data"))
