"""`windtunnel drill`: releases a bad model to a target of its own, and tells whether and when it came down."""

from __future__ import annotations

import argparse
import getpass
import uuid
from datetime import UTC, datetime

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output

#: What can be wrong with the model (`include.release.drill.faults.Fault`).
FAULTS = ("slow", "wrong", "skewed", "failing", "leaking", "crashing", "killing")
EXIT_OK, EXIT_MISSED = 0, 1


def add_drill(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `drill`."""
    parser.add_argument("--fault", choices=FAULTS, help="what is wrong with the model (default: the faults take turns)")
    parser.add_argument("--live", action="store_true", help="the fault shows only once the model has traffic")
    parser.add_argument("--profile", help="profile of the spec whose guardrails are tried")


def drill(arguments: argparse.Namespace, out: Output) -> int:
    """Holds a drill on this machine and records it; 1 where the bad model was not stopped."""
    from include.release.drill.faults import Fault
    from include.release.drill.plan import summary
    from include.release.drill.record import drill as hold_drill
    from include.release.drill.record import keep
    from include.spec import load_family

    family, settings = chosen_family(arguments.family), live_settings()
    spec = load_family(family, arguments.profile or settings.profile)
    fault = Fault(arguments.fault) if arguments.fault else None
    record = hold_drill(settings, spec, name=f"cli-{uuid.uuid4().hex[:12]}", fault=fault, live=arguments.live)
    keep(settings, family, record, actor=f"{getpass.getuser()} via windtunnel drill", at=datetime.now(UTC))
    if out.as_json:
        out.document(record)
    else:
        out.line(f"{family}: {summary(record)}", style="bold")
        out.line(f"  {record['why']}")
        out.line(f"  {record['by_candidate']} of {record['asked']} requests were answered by the bad model")
    return EXIT_OK if record["outcome"] == "stopped" else EXIT_MISSED
