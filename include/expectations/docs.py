"""Data Docs: a validation as one self-contained HTML page.

The library's own renderer makes a page per suite that fetches scripts, styles and a tracking image from nine hosts.
This one shows the same counts for all deliveries of a run, works without a network, and says nothing to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from include.data.records import DeliveryCheck, ExpectationCount, PairReport, TableCheck

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
    return f"{heading}<table>{head}{lines}</table>{_waived(table)}{_pairs(table.pairs)}"


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


def describe(pairs: PairReport) -> str:
    """The validation of pairs in a sentence."""
    unjudged = f"{pairs.without_answer} without an answer, {pairs.released} released by people"
    if pairs.needed:
        return f"none judged, as there are fewer than {pairs.needed} to learn from; {unjudged}"
    return f"{pairs.judged} judged, {pairs.uncertain} wait for people, {pairs.bad} are bad; {unjudged}"


def _pairs(pairs: PairReport | None) -> str:
    if pairs is None:
        return ""
    heading = f"<h4>Question and answer pairs</h4><p>{escape(describe(pairs))}.</p>"
    if not pairs.trained_on:
        return heading
    scores = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td class=n>{score.auc:.3f}</td>"
        f"<td class=n>{score.low:.3f} to {score.high:.3f}</td></tr>"
        for name, score in pairs.classifiers.items()
    )
    caught = "".join(
        f"<tr><td><code>{escape(kind)}</code></td><td class=n>{pairs.corrupted[kind]}</td>"
        f"<td class=n>{share:.1%}</td></tr>"
        for kind, share in pairs.caught.items()
    )
    return (
        f"{heading}<p>Learnt from {pairs.trained_on} pairs and corrupted copies of them. On pairs that the models have "
        f"not seen, {pairs.sound_passed:.1%} of those that came in pass.</p>"
        "<table><tr><th>validator or classifier</th><th class=n>area under the ROC curve</th>"
        f"<th class=n>95% interval</th></tr>{scores}</table>"
        f"<table><tr><th>corruption</th><th class=n>copies</th><th class=n>caught</th></tr>{caught}</table>"
    )
