"""`windtunnel cases`: questions that once went wrong, and whether the model answers them right by now."""

from __future__ import annotations

import argparse
import getpass
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.cli.context import chosen_family, chosen_version, live_settings
from include.cli.output import Output
from include.errors import DataError, UserError
from include.settings import Settings

EXIT_WRONG = 3


def add_cases(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    family: argparse.ArgumentParser,
) -> None:
    """Adds the command and its parts."""
    cases = commands.add_parser("cases", help="known cases: each must come out right before a model ships")
    parts = cases.add_subparsers(metavar="WHAT", required=True)
    listed = parts.add_parser("list", help="the family's known cases", parents=[family, common])
    listed.set_defaults(run="include.cli.cases:list_all")
    check = parts.add_parser("check", help="ask them of a registered version, without the gateway", parents=[common])
    check.set_defaults(run="include.cli.cases:check")
    check.add_argument("family", metavar="FAMILY")
    check.add_argument("--version", metavar="VERSION", help="default: the one that serves")
    add = parts.add_parser("add", help="add one to the family's cases.jsonl, for review", parents=[common])
    add.set_defaults(run="include.cli.cases:add")
    add.add_argument("family", metavar="FAMILY")
    add.add_argument("id", metavar="ID", help="names the case in verdicts, such as late-filing")
    add.add_argument("--request", metavar="ID", help="take inputs and truth from this request and the feedback on it")
    add.add_argument("--days", type=int, default=30, help="how far back to look for the request (default: 30)")
    add.add_argument("--inputs", metavar="JSON", help='such as {"question": "..."}')
    add.add_argument("--truth", metavar="JSON", help='as feedback gives it, such as {"citations": ["AML-3.2"]}')
    add.add_argument("--metric", required=True, help="what the answer is labelled with, such as hit_at_1")
    limit = add.add_mutually_exclusive_group()
    limit.add_argument("--at-least", type=float, metavar="X", help="default: 1")
    limit.add_argument("--at-most", type=float, metavar="X", help="where less is better")
    add.add_argument("--why", default="", help="what went wrong")


def list_all(arguments: argparse.Namespace, out: Output) -> int:
    """The known cases of a family."""
    from include.evaluation.cases import read_cases

    family = chosen_family(arguments.family)
    path = cases_file(family)
    cases = read_cases(path)
    if out.as_json:
        out.document([case.model_dump(exclude_none=True) for case in cases])
        return 0
    rows = [(case.id, json.dumps(case.inputs)[:100], case.asks, case.why, case.added_at[:10]) for case in cases]
    out.table(["case", "inputs", "must be", "why", "since"], rows, empty=f"no known cases: there is no {path}")
    return 0


def add(arguments: argparse.Namespace, out: Output) -> int:
    """Adds a case, from the command line or from a request that got feedback."""
    from pydantic import ValidationError

    from include.evaluation.cases import Case, add_case

    family = chosen_family(arguments.family)
    inputs, truth = _from_log(live_settings(), family, arguments) if arguments.request else ({}, {})
    values = {
        "id": arguments.id,
        "inputs": _json(arguments.inputs, "--inputs") if arguments.inputs else inputs,
        "truth": _json(arguments.truth, "--truth") if arguments.truth else truth,
        "metric": arguments.metric,
        "at_most": arguments.at_most,
        "at_least": 1.0 if arguments.at_least is None and arguments.at_most is None else arguments.at_least,
        "why": arguments.why,
        "added_by": getpass.getuser(),
        "added_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        case = Case.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the case"
        raise UserError(
            f"{place}: {first['msg']}", where="windtunnel cases add", hint="give --request, or --inputs and --truth"
        ) from None
    path = cases_file(family)
    add_case(path, case)
    if out.as_json:
        out.document({"file": str(path), "case": case.model_dump(exclude_none=True)})
    else:
        out.line(f"{family}: case {case.id} ({case.asks}) is in {path}: review it and commit it", style="bold")
    return 0


def check(arguments: argparse.Namespace, out: Output) -> int:
    """Asks every known case of a version; exit status 3 where one comes out wrong."""
    from include.evaluation.cases import check_cases, read_cases
    from include.families.contract import load_code
    from include.release.packages import verify_usable

    family, settings = chosen_family(arguments.family), live_settings()
    row = chosen_version(settings, family, arguments.version)
    package = verify_usable(settings, family, row.digest)
    runtime = load_code(package.code).load(settings.home / "cache" / "packages" / family / row.digest)
    found = check_cases(runtime, read_cases(cases_file(family)))
    if out.as_json:
        out.document({"version": row.version, **found})
    else:
        wrong = len(found["failed"])
        out.line(f"{family} {row.version}: {found['n'] - wrong} of {found['n']} cases come out right", style="bold")
        for case in found["failed"]:
            out.line(f"  {case['id']}: {case['found']}; asked for {case['asks']}")
    return EXIT_WRONG if found["failed"] else 0


def cases_file(family: str) -> Path:
    """The file with the family's known cases."""
    from include.evaluation.cases import CASES_FILE
    from include.spec import family_folder

    return family_folder(family) / CASES_FILE


def _from_log(settings: Settings, family: str, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs of the request, and the truth that feedback gave; empty where there was none."""
    from include.serving.predictions import read_feedback, read_predictions
    from include.store.objects import open_store

    store, now = open_store(settings.store_url), datetime.now(UTC)
    window = (now - timedelta(days=max(arguments.days, 1)), now + timedelta(minutes=1))
    asked = _of_request(read_predictions(store, family, *window), arguments.request)
    if asked is None:
        raise DataError(
            f"there is no request {arguments.request[:64]!r} in the prediction log",
            where=f"the last {arguments.days} days",
            hint="look further back with --days; the gateway writes the log every few seconds",
        )
    told = _of_request((row for row in read_feedback(store, family, *window) if row.get("truth")), arguments.request)
    return dict(asked["inputs"]), dict(told["truth"]) if told else {}


def _of_request(rows: Iterable[dict[str, Any]], request: str) -> dict[str, Any] | None:
    return next((row for row in rows if row.get("request_id") == request), None)


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"no JSON: {error}", where=option, hint='such as {"question": "..."}') from None
