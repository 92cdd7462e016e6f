"""One measured side of the ingest benchmark as a process: `python -m benchmarks.ingest_worker SIDE FILE HOME`.

`own` runs the steps ingest, validate and publish on a folder with the file. `plain` is what one would write in an
afternoon: pandas reads the file, Great Expectations runs the same suite once over it, and the rows that pass are
written as Parquet, once per key. Prints its figures as JSON on the last line.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def main(argv: list[str]) -> None:
    side, file, home = argv
    began = time.perf_counter()
    found = {"own": _own, "plain": _plain}[side](Path(file), Path(home))
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mib": _peak_mib(), **found}))


def _peak_mib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _own(file: Path, home: Path) -> dict[str, Any]:
    """What came in, what is in the version, processor seconds of each step, and the peak of memory after it."""
    from benchmarks import orders_suite
    from benchmarks.orders import orders_spec
    from include.data.ingest import ingest
    from include.data.publish import publish
    from include.data.validate import validate
    from include.settings import Settings
    from include.steps.document import make_document
    from include.steps.entry import StepContext, run_step
    from include.store.objects import open_store

    sys.modules["include.expectations.orders"] = orders_suite
    settings, spec = Settings.from_env({"WINDTUNNEL_HOME": str(home)}), orders_spec()
    store = open_store(settings.store_url)
    took: dict[str, float] = {}
    peaks: dict[str, int] = {}

    def step(function: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        name = function.__name__
        document = make_document(
            name, "benchmark", spec, inputs, spec_parts=("data", "split"), code_version="", created_at=datetime.now(UTC)
        )
        began = time.process_time()
        if run_step(StepContext(document, store, settings), function):
            raise SystemExit(f"the step {name} failed")
        took[name], peaks[name] = round(time.process_time() - began, 2), round(_peak_mib())
        outputs: dict[str, Any] = json.loads(store.get(document.result_key))["outputs"]
        return outputs

    source = str(file.parent)
    ingested = step(ingest, {"run": "benchmark", "source": source, "since": None, "until": None})
    validated = step(validate, {"deliveries": ingested["deliveries"]})
    published = step(publish, {"checked": validated["checked"], "source": source})
    totals = {
        name: published[name] for name in ("rows_in", "rows_clean", "rows_quarantined", "rows_duplicate", "reasons")
    }
    return {
        "processor_seconds": took,
        "peaks_mib": peaks,
        "rows": published["rows_in"],
        "clean": published["rows_clean"],
        "totals": totals,
    }


def _plain(file: Path, home: Path) -> dict[str, Any]:
    import great_expectations as gx
    import pandas as pd

    from benchmarks.orders_suite import suite

    frame = pd.read_json(file, lines=True, dtype={"order_id": str}, convert_dates=["ordered_on"])
    frame["row"] = range(len(frame))
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("plain").add_dataframe_asset("orders")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": frame})
    form = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": ["row"],
        "return_unexpected_index_query": False,
    }
    results = batch.validate(gx.ExpectationSuite(name="orders", expectations=suite("orders")), result_format=form)
    bad = {entry["row"] for result in results.results for entry in result.result["unexpected_index_list"] or []}
    clean = frame[~frame["row"].isin(bad)].drop_duplicates("order_id")
    home.mkdir(parents=True, exist_ok=True)
    clean.drop(columns="row").to_parquet(home / "orders.parquet")
    return {"rows": len(frame), "clean": len(clean)}


if __name__ == "__main__":
    main(sys.argv[1:])
