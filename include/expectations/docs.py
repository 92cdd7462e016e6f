"""Data Docs: a validation as one self-contained HTML page.

The library's own renderer makes a page per suite that fetches scripts, styles and a tracking image from nine hosts.
This one shows the same counts for all deliveries of a run, works without a network, and says nothing to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from include.data.records import DeliveryCheck, ExpectationCount, TableCheck

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.ok { color: #1a7f37; } .bad { color: #cf222e; } .warn { color: #9a6700; } code { font-size: .9em; }
"""


def render(family: str, checks: Sequence[DeliveryCheck]) -> str:
    """The page for the deliveries of one run."""
    title = f"Validation of {family}"
    body = "".join(_delivery(check) for check in checks) or "<p>There was nothing to check.</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _delivery(check: DeliveryCheck) -> str:
    state = _state(check.passed, "passed", "stopped")
    suite = " ".join(part for part in (check.suite, check.suite_version, check.suite_digest[:12]) if part)
    tables = "".join(_table(name, table) for name, table in check.tables.items())
    return (
        f"<h2>Delivery {escape(check.delivery)} {state}</h2><p>Suite <code>{escape(suite)}</code>, content "
        f"<code>{escape(check.digest[:16])}</code>. Quarantine: <code>{escape(check.quarantine_key)}</code></p>{tables}"
    )


def _table(name: str, table: TableCheck) -> str:
    state = _state(table.passed, "passed", "under the minimum")
    heading = (
        f"<h3>{escape(name)} {state}</h3><p>{table.rows_in} rows came in, {table.rows_clean} are clean, "
        f"{table.counts.rows_quarantined} in quarantine, {table.rows_duplicate} are there already (duplicates). "
        f"{table.valid_rate:.2%} valid, {table.min_valid_rate:.2%} needed.</p>"
    )
    named = {count.reason for count in table.expectations}
    beside = [
        ExpectationCount(reason=reason, description="found before or beside the suite", evaluated=0, failed=failed)
        for reason, failed in table.reasons.items()
        if reason not in named
    ]
    lines = "".join(
        f"<tr><td><code>{escape(count.reason)}</code></td><td>{escape(count.description)}{_level(count)}</td>"
        f"<td class=n>{count.evaluated or ''}</td><td class=n>{_failed(count)}</td>"
        f"<td><code>{escape(', '.join(count.samples or table.samples.get(count.reason, [])))}</code></td></tr>"
        for count in [*table.expectations, *beside]
    )
    head = (
        "<tr><th>reason</th><th>expectation</th><th class=n>rows</th><th class=n>failed</th><th>for example</th></tr>"
    )
    return f"{heading}<table>{head}{lines}</table>{_waived(table)}"


def _waived(table: TableCheck) -> str:
    if not table.waived:
        return ""
    parts = ", ".join(f"<code>{escape(reason)}</code> for {rows}" for reason, rows in table.waived.items())
    return f"<p>Rows among the clean ones for which a person waived a reason: {parts}.</p>"


def _level(count: ExpectationCount) -> str:
    return ' <span class="warn">(warns only: such rows stay clean)</span>' if count.warns else ""


def _failed(count: ExpectationCount) -> str:
    if count.warns and count.failed:
        return f'<span class="warn">{count.failed}</span>'
    return _state(count.failed == 0, "0", str(count.failed))


def _state(good: bool, yes: str, no: str) -> str:
    return f'<span class="{"ok" if good else "bad"}">{escape(yes if good else no)}</span>'
