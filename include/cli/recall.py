"""`windtunnel recall`: bad data was published. Which models learned from it, who of them answers, and how to go back.

Exit status: 0 no model with recalled data is in the traffic (any more), 3 one is; 2 the request was wrong.
"""

from __future__ import annotations

import argparse
import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.errors import UserError

if TYPE_CHECKING:
    from include.lineage.impact import Impact
    from include.lineage.records import Records
    from include.release.ledger import Ledger
    from include.settings import Settings

EXIT_OK, EXIT_SERVING = 0, 3


def recall(arguments: argparse.Namespace, out: Output) -> int:
    """Records the recall, shows what it means, and with --revert takes the traffic back."""
    from include.data.recalls import active_recalls, make_recall, record_recall
    from include.lineage.impact import assess
    from include.lineage.records import read_records
    from include.release.ledger import Ledger
    from include.store.database import open_database
    from include.store.objects import open_store

    family, version = _dataset(arguments.reference)
    if not arguments.reason and not arguments.dry_run:
        raise UserError("say why", where="--reason", hint="it is kept in the ledger; --dry-run needs none")
    settings = live_settings()
    ledger = Ledger(open_database(settings.database_url))
    if arguments.lift:
        return _lift(ledger, family, version, arguments, out)
    records = read_records(settings, family)
    manifests = {dataset.manifest.version: dataset.manifest for dataset in records.datasets}
    if version not in manifests:
        known = ", ".join(manifests) or "there is none yet"
        raise UserError(f"{family} has no dataset version {version!r}", hint=f"there are: {known}")
    manifest = manifests[version]
    made = make_recall(
        open_store(settings.store_url),
        manifest,
        manifests.get(manifest.parent or ""),
        delivery=arguments.delivery,
        row=arguments.row,
        reason=arguments.reason or "(dry run)",
    )
    active = [known for _, known in active_recalls(ledger, family)]
    impact = assess(settings, records, made, active)
    new = False
    if not arguments.dry_run:
        new = record_recall(ledger, family, made, actor=_actor(), at=datetime.now(UTC))
    reverted = None
    if arguments.revert and not arguments.dry_run and impact.serving and impact.target:
        reverted = _revert(settings, family, impact)
        impact = assess(settings, read_records(settings, family), made, active)
    _show(family, impact, records, out, dry_run=arguments.dry_run, new=new, reverted=reverted)
    return EXIT_SERVING if impact.serving else EXIT_OK


def _dataset(reference: str) -> tuple[str, str]:
    from include.lineage.reference import Kind, parse_reference

    parsed = parse_reference(reference, default=Kind.DATA)
    if parsed.kind is not Kind.DATA or parsed.name is None:
        raise UserError(f"{reference!r} is no dataset version", hint="such as compliance_qa:data@1.0.0")
    return chosen_family(parsed.family), parsed.name


def _lift(ledger: Ledger, family: str, version: str, arguments: argparse.Namespace, out: Output) -> int:
    from include.data.recalls import lift_recalls

    given = {"delivery": arguments.delivery, "row": arguments.row, "reason": arguments.reason}
    if arguments.dry_run or arguments.revert:
        raise UserError("--lift goes with neither --dry-run nor --revert", where="--lift")
    lifted = lift_recalls(ledger, family, version, **given, actor=_actor(), at=datetime.now(UTC))
    if out.as_json:
        out.document({"lifted": [recall.model_dump(mode="json") for recall in lifted]})
    for done in lifted:
        out.line(f"{family}: no longer recalled: {done.words()}", style="bold")
    return EXIT_OK


def _revert(settings: Settings, family: str, impact: Impact) -> dict[str, Any]:
    from include.release.rollback import revert

    reason = f"recall of {family}:data@{impact.recall.version}: {impact.recall.reason}"
    return revert(settings, family, to=impact.target, reason=reason, actor=_actor(), at=datetime.now(UTC))


def _show(
    family: str,
    impact: Impact,
    records: Records,
    out: Output,
    *,
    dry_run: bool,
    new: bool,
    reverted: dict[str, Any] | None,
) -> None:
    from include.lineage.impact import document, rollback_command

    if out.as_json:
        said = {"dry_run": dry_run, "recorded": new, "reverted": reverted}
        out.document({"family": family, **document(family, impact), **said})
        return
    state = "would be recalled" if dry_run else "recalled" if new else "was recalled before"
    out.line(f"{family}: {state}: {impact.recall.words()}", style="bold")
    newest = records.datasets[-1].manifest.version
    held = ", ".join(impact.dataset_versions) or "none"
    out.line(
        f"dataset versions that hold it: {held}{' (the newest is one)' if newest in impact.dataset_versions else ''}"
    )
    rows = [
        (
            model.version,
            "baseline" if model.baseline else "",
            model.dataset_version,
            model.role or ("served before" if model.served else "never served"),
            "shadow" if model.shadow else f"{model.share:.0%}",
        )
        for model in impact.models
    ]
    out.line()
    out.table(["model", "", "trained on", "serves as", "traffic now"], rows, empty="no model was trained on it")
    out.line()
    if reverted is not None:
        out.line(f"reverted: version {reverted['to']} takes all traffic (generation {reverted['generation']})", "bold")
    if not impact.serving:
        out.line("no model that was trained on it is in the traffic")
    elif impact.target:
        out.line(f"{impact.share:.0%} of the traffic is answered by it. To take it back:", style="bold red")
        out.line(f"  {rollback_command(family, impact.target, impact.recall)}")
    else:
        out.line(f"{impact.share:.0%} of the traffic is answered by it, and no version can take over:", "bold red")
        for why in impact.passed_over or ["nothing else ever served all traffic"]:
            out.line(f"  {why}")
        out.line(f"correct the delivery, then `windtunnel train {family}`")


def _actor() -> str:
    return f"{getpass.getuser()} via windtunnel recall"
