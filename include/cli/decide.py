"""`windtunnel rollback`, `accept` and `replay`: a person takes traffic back, accepts, or asks why."""

from __future__ import annotations

import argparse
import getpass
import json
from datetime import UTC, datetime
from typing import Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.errors import UserError


def rollback(arguments: argparse.Namespace, out: Output) -> int:
    """All traffic back to a version that served everything before and still loads."""
    from include.release.rollback import revert

    family = chosen_family(arguments.family)
    done = revert(
        live_settings(),
        family,
        to=arguments.to,
        reason=arguments.reason,
        actor=f"{getpass.getuser()} via windtunnel rollback",
        at=datetime.now(UTC),
    )
    if out.as_json:
        out.document(done)
    else:
        out.line(f"{family}: version {done['to']} takes all traffic (generation {done['generation']})", style="bold")
        out.line(f"  instead of {done['from']}; the gateway followed in {done['gateway_seconds']:g} s")
        for passed_over in done["passed_over"]:
            out.line(f"  {passed_over}")
    return 0


def accept(arguments: argparse.Namespace, out: Output) -> int:
    """Registers a candidate that its gates left open, on a person's word."""
    from include.release.acceptance import accept as settle

    family = chosen_family(arguments.family)
    done = settle(
        live_settings(),
        family,
        arguments.decision,
        reason=arguments.reason,
        actor=f"{getpass.getuser()} via windtunnel accept",
        at=datetime.now(UTC),
    )
    if out.as_json:
        out.document(done)
        return 0
    out.line(f"{family}: registered as {done['model_version']}, accepted by {done['actor']}", style="bold")
    for reason in [*done["open"], done["note"]]:
        if reason:
            out.line(f"  {reason}")
    out.line(f"  nothing serves it yet: trigger release__{family} with model_version {done['model_version']}")
    return 0


def replay(arguments: argparse.Namespace, out: Output) -> int:
    """A stored decision again, by the code of today and with changes to its input; nothing is stored."""
    from include.release.decisions import replay as again
    from include.store.database import open_database

    changes = dict(_change(text) for text in arguments.set)
    found = again(open_database(live_settings().database_url), arguments.decision, changes)
    if out.as_json:
        out.document(found)
        return 0
    out.line(f"{found['kind']} {found['decision'][:12]}: {'the same' if found['same'] else 'DIFFERENT'}", style="bold")
    for path, (old, new) in found["changed"].items():
        out.line(f"  {path}: {old} -> {new}")
    if found["code_changed"]:
        out.line("  the code has changed since: what differs may come from that")
    for name in ("before", "after"):
        out.line(f"{name}: {found[name].get('verdict')}")
        for reason in found[name].get("why", []):
            out.line(f"  {reason}")
    return 0


def _change(text: str) -> tuple[str, Any]:
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise UserError(f"{text!r} is not PATH=VALUE", where="--set", hint="such as: --set gates.0.threshold=0.7")
    try:
        return path, json.loads(value)
    except json.JSONDecodeError:
        return path, value
