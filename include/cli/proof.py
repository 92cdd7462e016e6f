"""`windtunnel card` and `audit`: what a version was judged by, unaltered; and what is known of its dependencies."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.cli.context import chosen_family, chosen_version, live_settings
from include.cli.output import Output
from include.errors import UserError, WindtunnelError, clip

EXIT_VULNERABLE = 3
_SECONDS = 900


def add_proof(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands' arguments."""
    card = add("card", "the model card of a version, if it is what was registered", "proof:card")
    card.add_argument("family", metavar="FAMILY")
    card.add_argument("version", metavar="VERSION", nargs="?", help="default: the one that serves")
    card.add_argument("--report", action="store_true", help="the evaluation report (JSON) instead")
    audit = add("audit", "hold the pinned dependencies against known vulnerabilities", "proof:audit")
    audit.add_argument("--advisories", type=Path, metavar="PATH", help="OSV records: .json, .jsonl, .zip, or a folder")
    audit.add_argument("--constraints", type=Path, metavar="FILE", help="default: constraints.txt of this checkout")


def card(arguments: argparse.Namespace, out: Output) -> int:
    """Shows the card or the report of a version; refuses one that was changed since."""
    from include.evaluation.documents import CARD, REPORT, document_of, read
    from include.store.objects import open_store

    family, settings = chosen_family(arguments.family), live_settings()
    row = chosen_version(settings, family, arguments.version)
    name = REPORT if arguments.report else CARD
    document = document_of(row.record, name)
    if document is None:
        raise UserError(
            f"version {row.version} was registered without a {name}",
            where=family,
            hint="a baseline has none; versions of earlier releases name theirs without a digest",
        )
    text = read(open_store(settings.store_url), document).decode()
    if out.as_json:
        out.document({"version": row.version, "key": document.key, "sha256": document.digest, name: text})
    else:
        print(text)
    return 0


def audit(arguments: argparse.Namespace, out: Output) -> int:
    """Audits the constraints and keeps what was found; exit status 3 where a pin is vulnerable."""
    from include.evaluation.advisories import CONSTRAINTS, find_vulnerable, keep_audit, read_pins
    from include.store.objects import open_store

    constraints = arguments.constraints or CONSTRAINTS
    pins = read_pins(constraints)
    if arguments.advisories is not None:
        source, vulnerable = arguments.advisories.name, find_vulnerable(pins, arguments.advisories)
    else:
        source, vulnerable = "pip-audit", _pip_audit(constraints)
    store = open_store(live_settings().store_url)
    record = keep_audit(store, constraints, source, vulnerable, datetime.now(UTC))
    if out.as_json:
        out.document({**record, "pins": len(pins)})
        return EXIT_VULNERABLE if vulnerable else 0
    rows = [(v["package"], v["version"], v["id"], ", ".join(v["fixed"]) or "-", v["summary"]) for v in vulnerable]
    found = f"none of {len(pins)} pins is known to be vulnerable ({source})"
    out.table(["package", "pinned", "advisory", "fixed in", ""], rows, empty=found)
    return EXIT_VULNERABLE if vulnerable else 0


def _pip_audit(constraints: Path) -> list[dict[str, Any]]:
    """What pip-audit finds; it asks the network.

    Raises:
        UserError: It is not installed.
        WindtunnelError: It gave no answer; then nothing was audited.
    """
    from include.evaluation.advisories import read_pip_audit

    program = shutil.which("pip-audit")
    if program is None:
        raise UserError(
            "not audited: pip-audit is not installed, and no advisories are given",
            where="windtunnel audit",
            hint="pip install pip-audit, or download OSV's records and give --advisories",
        )
    command = [
        program,
        "-r",
        str(constraints),
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner=off",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise WindtunnelError("not audited: pip-audit did not answer", hint="is there a network?") from None
    if not done.stdout.strip():
        said = done.stderr.strip().splitlines()
        raise WindtunnelError(f"not audited: {clip(said[-1] if said else 'pip-audit said nothing', 300)}")
    return read_pip_audit(done.stdout)
