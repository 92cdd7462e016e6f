"""`windtunnel data ingest`: the data steps of a pipeline run, here and now, without Airflow.

The same functions with the same fingerprints: what a DAG run did is not done again, and the other way round.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.data.__main__ import STEPS
from include.data.quarantine import newest_checks
from include.data.records import CheckedDelivery, IngestedDelivery, RowCounts
from include.settings import Settings
from include.spec import family_folder, parse_params, profile_names, resolve_any_spec
from include.spec.load import DEFAULT_PROFILE
from include.steps.document import make_document, run_key
from include.steps.entry import EXIT_FINAL, EXIT_OK, StepContext, quiet_libraries, run_step
from include.steps.fingerprint import code_version
from include.steps.parts import SPEC_PARTS
from include.store.objects import open_store

EXIT_FAILED, EXIT_USER = 1, 2
_COLUMNS = ("source", "table", *RowCounts.model_fields)

_Rows = dict[tuple[str, str], RowCounts]


def ingest(arguments: argparse.Namespace, out: Output) -> int:
    """Ingests, validates and publishes; shows what became of every row, also where the gate stops the run."""
    family, settings = chosen_family(arguments.family), live_settings()
    since, until = arguments.interval or (None, None)
    params = parse_params(
        {"profile": _profile(arguments, settings), "source": arguments.source, "since": since, "until": until}
    )
    run = _Run(settings, family, params.profile, out)
    given = {
        "run": run.name,
        "source": params.source,
        "since": params.since.isoformat() if params.since else None,
        "until": params.until.isoformat() if params.until else None,
    }
    quiet_libraries()
    ingested = run.step("ingest", given)
    if ingested is None:
        return run.failed({})
    validated = run.step("validate", {"deliveries": ingested["deliveries"]})
    if validated is None:
        return run.failed(_stopped_rows(settings, family, ingested["deliveries"]))
    rows = _rows([CheckedDelivery.model_validate(record) for record in validated["checked"]])
    published = run.step("publish", {"checked": validated["checked"], "source": params.source})
    if published is None:
        return run.failed(rows)
    published["new"] = published["new"] and not run.reused
    _show(out, rows)
    state = "new" if published["new"] else "there already"
    out.line(f"\ndataset {family} {published['dataset_version']} ({state}): {published['change']['reason']}")
    if out.as_json:
        facts = ("dataset_version", "dataset_digest", "manifest_key", "new", "change", "reasons")
        record = {name: published[name] for name in facts}
        out.document({"ok": True, **_document(rows), **record, "watermarks": ingested["watermarks"]})
    return EXIT_OK


def _profile(arguments: argparse.Namespace, settings: Settings) -> str:
    """The one that was asked for; else the installation's where the family has it, as in the form of the DAG."""
    known = profile_names(family_folder(chosen_family(arguments.family)) / "family.yaml")
    return arguments.profile or (settings.profile if settings.profile in known else DEFAULT_PROFILE)


class _Run:
    """The steps of one call."""

    def __init__(self, settings: Settings, family: str, profile: str, out: Output) -> None:
        self._settings = settings
        self._store = open_store(settings.store_url)
        self._spec = resolve_any_spec(family, parse_params({"profile": profile}))
        self._out = out
        self._now = datetime.now(UTC)
        self.name = run_key(f"data__{family}", f"cli__{self._now:%Y-%m-%dT%H%M%S.%f}")
        self.reused = False  # whether the last step had been done before
        self._code = EXIT_OK
        self._error: dict[str, Any] = {}

    def step(self, name: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The outputs of a step; None where it failed. What it says on the way goes to stderr."""
        document = make_document(
            name,
            self.name,
            self._spec,
            inputs,
            spec_parts=SPEC_PARTS[name],
            code_version=code_version(),
            created_at=self._now,
        )
        self._store.put(document.document_key, document.model_dump_json(indent=1).encode())
        self.reused = self._store.exists(document.result_key)
        module, _, function = STEPS[name].partition(":")
        with contextlib.redirect_stdout(sys.stderr):
            step = getattr(importlib.import_module(module), function)
            self._code = run_step(StepContext(document, self._store, self._settings), step)
        if self._code != EXIT_OK:
            self._error = json.loads(self._store.get(document.error_key))
            return None
        outputs: dict[str, Any] = json.loads(self._store.get(document.result_key))["outputs"]
        return outputs

    def failed(self, rows: _Rows) -> int:
        """The exit status of a run that a step ended; shows what is known of its rows."""
        if rows:
            _show(self._out, rows)
            self._out.line("\nnothing was published", style="red")
        if self._out.as_json:
            self._out.document({"ok": False, **_document(rows), "error": self._error})
        return EXIT_USER if self._code == EXIT_FINAL else EXIT_FAILED


def _rows(deliveries: Sequence[CheckedDelivery]) -> _Rows:
    """(source, table) -> what became of its rows."""
    found: _Rows = {}
    for delivery in deliveries:
        for table, counts in delivery.tables.items():
            key = (delivery.source, table)
            found[key] = found.get(key, RowCounts()) + counts
    return found


def _stopped_rows(settings: Settings, family: str, records: Sequence[dict[str, Any]]) -> _Rows:
    """The rows of a run that the gate stopped, from the checks that it left."""
    batches = {IngestedDelivery.model_validate(record).batch_key for record in records}
    checks = newest_checks(open_store(settings.store_url), family)
    found: _Rows = {}
    for source, check in checks:
        if check.batch_key in batches:
            for table, counts in check.tables.items():
                found[source, table] = found.get((source, table), RowCounts()) + counts.counts
    return found


def _show(out: Output, rows: _Rows) -> None:
    total = sum(rows.values(), RowCounts())
    lines = [(*key, *counts.model_dump().values()) for key, counts in sorted(rows.items())]
    out.table(_COLUMNS, [*lines, ("all", "", *total.model_dump().values())] if lines else [], empty="nothing came in")


def _document(rows: _Rows) -> dict[str, Any]:
    return {
        **sum(rows.values(), RowCounts()).model_dump(),
        "tables": [{"source": source, "table": table, **c.model_dump()} for (source, table), c in sorted(rows.items())],
    }
