"""`windtunnel quarantine`: what did not pass, why, and how a person takes it out again."""

from __future__ import annotations

import argparse
import getpass
from datetime import UTC, datetime
from pathlib import Path

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.errors import UserError


def list_all(arguments: argparse.Namespace, out: Output) -> int:
    """Deliveries with rows in quarantine, their reasons, and how many rows were released since."""
    from include.data.quarantine import list_quarantine
    from include.data.released import list_releases, released_rows
    from include.release.ledger import Ledger
    from include.store.database import open_database
    from include.store.objects import open_store

    family, settings = chosen_family(arguments.family), live_settings()
    store = open_store(settings.store_url)
    found = list_quarantine(store, family)
    releases = list_releases(Ledger(open_database(settings.database_url)), family)
    released = {
        entry.key: len({(row.table, row.place) for row in released_rows(store, releases, entry.delivery)})
        for entry in found
    }
    if out.as_json:
        out.document([{**vars(entry), "released": released[entry.key]} for entry in found])
        return 0
    rows = [
        (
            entry.delivery,
            entry.source,
            entry.passed,
            entry.rows,
            released[entry.key],
            ", ".join(f"{name} {n}" for name, n in entry.reasons.items()),
        )
        for entry in found
    ]
    columns = ["delivery", "source", "passed", "rows", "released", "reasons"]
    out.table(columns, rows, empty=f"no row of {family} is in quarantine")
    return 0


def show(arguments: argparse.Namespace, out: Output) -> int:
    """The rows of one delivery that are in quarantine; personal data is masked."""
    from include.data.mended import export_rows
    from include.data.quarantine import find_quarantine, quarantined_rows
    from include.store.objects import open_store

    family = chosen_family(arguments.family)
    store = open_store(live_settings().store_url)
    entry = find_quarantine(store, family, arguments.delivery, arguments.source)
    rows = list(quarantined_rows(store, entry.key, arguments.reason))
    if arguments.export:
        written = export_rows(rows, Path(arguments.export))
        out.line(f"{written} rows written to {arguments.export}: change `values`, then `windtunnel quarantine release`")
        if out.as_json:
            out.document({"file": arguments.export, "rows": written})
        return 0
    if out.as_json:
        out.document([vars(row) for row in rows[: arguments.limit]])
        return 0
    cells = [(row.table, row.place, ", ".join(row.reasons), row.detail, row.values[:200]) for row in rows]
    out.table(["table", "place", "reasons", "detail", "row"], cells[: arguments.limit], empty="no row has that reason")
    if len(rows) > arguments.limit:
        out.line(f"... and {len(rows) - arguments.limit} more (--limit)")
    return 0


def release(arguments: argparse.Namespace, out: Output) -> int:
    """Rows out of quarantine; the next run checks them."""
    from include.data.mended import read_mended
    from include.data.quarantine import find_quarantine
    from include.data.readmit import Wish
    from include.data.readmit import release as readmit
    from include.expectations.suites import binding_reasons, load_suite
    from include.release.ledger import Ledger
    from include.spec import load_any_family
    from include.store.database import open_database
    from include.store.objects import open_store

    if not arguments.waive and not arguments.file:
        raise UserError(
            "nothing says why the rows should pass now", hint="give --waive REASON, or --file with mended rows"
        )
    family, settings = chosen_family(arguments.family), live_settings()
    store = open_store(settings.store_url)
    spec = load_any_family(family, settings.profile)
    wish = Wish(
        waive=frozenset(arguments.waive),
        places=frozenset(arguments.row),
        mended=read_mended(Path(arguments.file)) if arguments.file else None,
        by=f"{arguments.by} ({getpass.getuser()} via windtunnel quarantine release)",
        why=arguments.reason,
    )
    outcome = readmit(
        store,
        Ledger(open_database(settings.database_url)),
        spec,
        find_quarantine(store, family, arguments.delivery, arguments.source),
        wish,
        binding=binding_reasons(load_suite(spec)) if arguments.waive else (),
        at=datetime.now(UTC),
    )
    if out.as_json:
        out.document(vars(outcome))
        return 0
    if outcome.name:
        out.line(f"{outcome.released} rows released as delivery {outcome.name}; the next run checks them", style="bold")
    else:
        out.line("nothing to release")
    if outcome.repeated:
        out.line(f"  {outcome.repeated} were released like this before")
    if outcome.unchanged:
        out.line(f"  {outcome.unchanged} of the file are as they were, and stay in quarantine")
    return 0
