"""The arguments of `windtunnel experiment`; standard library only, so that every other command starts at once."""

from __future__ import annotations

import argparse
from typing import Any

_DAY_HOURS = 24.0


def add_experiment(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Adds `experiment` and what belongs to it."""
    experiment = commands.add_parser("experiment", help="compare model versions on live traffic, and judge at any time")
    parts = experiment.add_subparsers(metavar="WHAT", required=True)
    question = _question()

    def add(name: str, help_: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = parts.add_parser(name, help=help_, description=help_, parents=[*parents, common])
        command.set_defaults(run=f"include.cli.experiments:{'names' if name == 'list' else name}")
        return command

    plan = add("plan", "how many units and days an experiment needs", question)
    plan.add_argument("--challengers", type=int, default=1, metavar="N", help="default: 1")
    plan.add_argument("--units-per-day", type=float, metavar="N", help="new units a day, over all variants")
    create = add("create", "declare an experiment and split the traffic", question)
    create.add_argument("family", metavar="FAMILY")
    create.add_argument("name", metavar="NAME", help="letters, digits, -, _ and .; never used twice")
    _add_design(create)
    status = add("status", "what an experiment says now, and what it may not say yet")
    stop = add("stop", "take a last look and give all traffic back to the control")
    for command in (status, stop):
        command.add_argument("family", metavar="FAMILY")
        command.add_argument("name", metavar="NAME")
    stop.add_argument("--reason", required=True, help="kept in the ledger")
    add("list", "the experiments of a family, the newest first").add_argument("family", metavar="FAMILY")


def _question() -> argparse.ArgumentParser:
    """What plan and create both ask for."""
    question = argparse.ArgumentParser(add_help=False)
    question.add_argument("--baseline", type=float, required=True, help="the control's metric as expected")
    question.add_argument("--mde", type=float, required=True, help="smallest difference worth finding, absolute")
    question.add_argument("--sd", type=float, help="standard deviation of one unit (default: the metric is a rate)")
    question.add_argument("--alpha", type=float, default=0.05, help="chance of one false claim (default: 0.05)")
    question.add_argument("--power", type=float, default=0.8, help="default: 0.8")
    question.add_argument("--label-delay-hours", type=float, default=1.0, help="how long a label may take (default: 1)")
    question.add_argument(
        "--watch-hours", type=float, default=_DAY_HOURS, help="how long each unit is watched (default: 24)"
    )
    return question


def _add_design(create: argparse.ArgumentParser) -> None:
    create.add_argument(
        "--challenger", type=weighted, action="append", required=True, metavar="VERSION[=WEIGHT]", help="repeatable"
    )
    create.add_argument("--control-weight", type=float, default=1.0, help="of what serves now (default: 1)")
    create.add_argument("--metric", type=metric, required=True, metavar="NAME[:lower]", help="the primary metric")
    create.add_argument(
        "--guardrail",
        type=guardrail,
        action="append",
        default=[],
        metavar="NAME[:lower]=MARGIN",
        help="must not be worse by more than MARGIN; error and latency_ms need no label; repeatable",
    )
    create.add_argument("--max-days", type=float, required=True, help="then it ends without proof")
    create.add_argument("--correction", choices=["holm", "benjamini_hochberg"], default="holm")
    create.add_argument("--cuped", action="store_true", help="adjust by what the same units did before")
    create.add_argument("--lookback-days", type=float, default=14.0, help="how far back that goes (default: 14)")


def weighted(text: str) -> dict[str, Any]:
    """`1.2.0` or `1.2.0=0.5`."""
    version, _, weight = text.partition("=")
    return {"version": version, "weight": float(weight) if weight else 1.0}


def metric(text: str) -> dict[str, Any]:
    """`hit_at_1`, or `latency_ms:lower` where lower is better."""
    name, separator, direction = text.partition(":")
    if separator and direction not in {"lower", "higher"}:
        raise argparse.ArgumentTypeError(f"{text!r}: after the colon comes lower or higher")
    return {"name": name, "better": direction or "higher"}


def guardrail(text: str) -> dict[str, Any]:
    """`error:lower=0.01`."""
    name, separator, margin = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=MARGIN, such as error:lower=0.01")
    return {**metric(name), "margin": float(margin)}
