"""`windtunnel COMMAND ...`: reads the command line and calls one function.

Only the standard library is imported before the command is known, so that the command starts at once. Exit status: 0
done, 1 something outside failed, 2 a person must change something, 3 everything ran and the candidate was refused, or
recalled data is in the traffic.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from include.cli.cases import add_cases
from include.cli.drill import add_drill
from include.cli.experiment_arguments import add_experiment
from include.cli.output import Output
from include.cli.proof import add_proof
from include.cli.rollout import add_rollout
from include.cli.target import add_target
from include.errors import FINAL_KINDS, WindtunnelError

EXIT_OK, EXIT_FAILED, EXIT_USER, EXIT_REFUSED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

Command = Callable[[argparse.Namespace, Output], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    out = Output(as_json=getattr(arguments, "json", False))
    module, _, function = arguments.run.partition(":")
    try:
        command: Command = getattr(importlib.import_module(module), function)
        return command(arguments, out)
    except WindtunnelError as error:
        out.error(error)
        return EXIT_USER if error.kind in FINAL_KINDS else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, such as `| head`: nothing more to say
        return EXIT_OK


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="windtunnel", description="Takes model families through their whole life.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document")
    family = argparse.ArgumentParser(add_help=False)
    family.add_argument("family", nargs="?", metavar="FAMILY", help="may be left out where there is only one")

    def add(name: str, help_: str, run: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_, description=help_, parents=[*parents, common])
        command.set_defaults(run=f"include.cli.{run}")
        return command

    _add_stack(add)
    add("status", "what runs, what serves to how much traffic, and the last release", "status:status")
    validate = add("validate", "check family specs and airflow_settings.yaml", "specs:validate")
    validate.add_argument("families", nargs="*", metavar="FAMILY", help="default: all")
    _add_train(add("train", "start a training run through Airflow's REST API", "runs:train", family))
    add("versions", "registered model versions", "records:versions", family)
    ledger = add("ledger", "what happened to the family's releases, the newest last", "records:ledger", family)
    ledger.add_argument("--limit", type=_positive, default=30, help="how many entries (default: 30)")
    history = add("history", "who answered how much traffic, when and why", "history:history", family)
    history.add_argument(
        "--at", metavar="TIME", help="what served at this moment (ISO 8601, UTC unless it says otherwise)"
    )
    history.add_argument("--limit", type=_positive, default=30, help="how many times, the newest first (default: 30)")
    compare = add("compare", "two versions side by side", "history:compare")
    compare.add_argument("family", metavar="FAMILY")
    compare.add_argument("first", metavar="V1")
    compare.add_argument("second", metavar="V2")
    dossier = add("dossier", "everything about one model version, from its traffic back to its data", "dossier:dossier")
    dossier.add_argument("family", nargs="?", metavar="FAMILY", help="may be left out where there is only one")
    dossier.add_argument(
        "version", nargs="?", metavar="VERSION", help="default: what serves; for a refused candidate: of its digest"
    )
    dossier.add_argument("--output", metavar="FILE", help="also write it as a page (HTML) that needs nothing else")
    dossier.add_argument("--verify", action="store_true", help="read the whole model package against its digest")
    cost = add("cost", "what the family's runs and models cost, and what had to be done again", "cost:cost", family)
    cost.add_argument("--limit", type=_positive, default=10, help="how many runs, the newest first (default: 10)")
    _add_studies(add, family)
    _add_ask(add("ask", "ask what serves, as a user would", "questions:ask"))
    back = add("rollback", "all traffic back to a version that served before", "decide:rollback", family)
    back.add_argument("--to", metavar="VERSION", help="default: the last one that served everything and still loads")
    back.add_argument("--reason", required=True, help="kept in the ledger")
    accept = add("accept", "register a candidate that its gates left open (INCONCLUSIVE)", "decide:accept")
    accept.add_argument("family", metavar="FAMILY")
    accept.add_argument("decision", metavar="DECISION", help="id, as the ledger and the gate's log show it")
    accept.add_argument("--reason", required=True, help="kept in the ledger and with the version")
    again = add("replay", "make a stored decision again, with changes to its input", "decide:replay")
    again.add_argument("decision", metavar="DECISION", help="id, as the ledger and the gate's log show it")
    again.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="such as margin=0.02, or gates.floor.threshold=0.7",
    )
    add_drill(add("drill", "release a bad model to a target of its own: does it come down?", "drill:drill", family))
    _add_lineage(add)
    _add_records(commands, common, family)
    add_experiment(commands, common)
    add_rollout(commands, common, family)
    add_cases(commands, common, family)
    add_proof(add)
    add_target(commands, common)
    return parser


def _add_stack(add: Callable[..., argparse.ArgumentParser]) -> None:
    up = add("up", "start Airflow, MLflow and the gateway on this machine", "stack:up")
    up.add_argument("--profile", help="profile of the specs that runs use unless told otherwise")
    add("down", "stop what `up` started, and everything below it", "stack:down")
    airflow = add("airflow", "run Airflow's own command on the local Airflow", "stack:airflow")
    airflow.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="such as: backfill create --help")
    demo = add("demo", "the whole life of one model, from data to a champion that serves", "demo.command:demo")
    demo.add_argument("family", nargs="?", default="compliance_qa", metavar="FAMILY")
    demo.add_argument("--exit", action="store_true", help="stop everything at the end instead of staying up")
    demo.add_argument("--source", metavar="PATH", help="your own deliveries instead of the sample")
    demo.add_argument("--profile", help="profile of the spec (default: the one for the source's layout, else demo)")
    demo.add_argument("--seed", type=_natural, help="default: the number of earlier demos")
    demo.add_argument("--trials", type=_positive, help="trials of the sweep (default: the profile's)")
    demo.add_argument("--rate", type=_positive, default=30, help="live questions per second (default: 30)")


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("--profile", help="profile of the spec")
    train.add_argument("--source", help="folder or URL of the deliveries")
    train.add_argument("--since", metavar="DATE", help="first delivery day")
    train.add_argument("--until", metavar="DATE", help="deliveries before this day")
    train.add_argument("--seed", type=_natural, help="another seed makes another candidate from the same data")
    train.add_argument("--trials", type=_positive, help="trials of the sweep")
    train.add_argument("--fold", type=int, metavar="N", help="fold that validates, where the split has folds (from 0)")
    train.add_argument("--reason", help="kept with everything that the run makes")
    train.add_argument("--release", action="store_true", help="also switch on the DAG that releases what passes")
    train.add_argument("--compare-only", action="store_true", help="register for comparison, never release")
    train.add_argument("--follow", action="store_true", help="show progress until the run has ended")


def _add_ask(ask: argparse.ArgumentParser) -> None:
    ask.add_argument("family", metavar="FAMILY")
    ask.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="a question, or NAME=VALUE for each input of the model (more than the options say, or other values); "
        "without any, which those are is told",
    )
    ask.add_argument("--file", metavar="JSON", help="a file with inputs as a JSON object (-: standard input)")
    ask.add_argument(
        "--example",
        nargs="?",
        const="",
        metavar="ID",
        help="an example of the newest dataset version's test split (default: its first), shown with the truth",
    )
    ask.add_argument("--unit", metavar="ID", help="who asks: the same unit meets the same variant")


def _add_studies(add: Callable[..., argparse.ArgumentParser], family: argparse.ArgumentParser) -> None:
    studies = add("studies", "hyperparameter searches, the newest first", "studies:studies", family)
    studies.add_argument("--limit", type=_positive, default=20, help="how many (default: 20)")
    studies.add_argument("--dashboard", action="store_true", help="serve Optuna's dashboard to this machine instead")
    studies.add_argument("--port", type=_positive, default=8901, help="of the dashboard (default: 8901)")
    study = add("study", "one search: trials, the best, repeats, why it stopped, what it took", "studies:study")
    study.add_argument("study", metavar="NAME", help="as `windtunnel studies` shows it, or the start of it")


def _add_lineage(add: Callable[..., argparse.ArgumentParser]) -> None:
    tree = add("lineage", "from what a model or dataset version was made, and what it went into", "lineage:lineage")
    tree.add_argument(
        "reference",
        metavar="WHAT",
        help="FAMILY@VERSION (model), FAMILY:data@VERSION (dataset), FAMILY:delivery@NAME; "
        "without @...: the model that serves, the newest dataset",
    )
    tree.add_argument("--up", action="store_true", help="only what it was made from")
    tree.add_argument("--down", action="store_true", help="only what it went into")
    tree.add_argument("--events", action="store_true", help="the family's OpenLineage events instead, one per line")
    recall = add("recall", "bad data was published: which models hold it, who answers, how to go back", "recall:recall")
    recall.add_argument("reference", metavar="DATASET", help="FAMILY:data@VERSION, or FAMILY@VERSION")
    recall.add_argument("--delivery", metavar="NAME", help="recall this delivery alone, wherever it is")
    recall.add_argument("--row", metavar="KEY", help="recall the rows with this key alone, wherever they are")
    recall.add_argument("--reason", help="kept in the ledger, and shown to whoever is refused")
    recall.add_argument("--revert", action="store_true", help="take traffic back to a version that does not hold it")
    recall.add_argument("--dry-run", action="store_true", help="show what it would mean; nothing is recorded")
    recall.add_argument("--lift", action="store_true", help="end the recall")


def _add_records(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    family: argparse.ArgumentParser,
) -> None:
    quarantine = commands.add_parser("quarantine", help="rows that did not pass, with their reasons")
    parts = quarantine.add_subparsers(metavar="WHAT", required=True)
    listed = parts.add_parser("list", help="deliveries that left rows behind", parents=[family, common])
    listed.set_defaults(run="include.cli.quarantine:list_all")
    show = parts.add_parser("show", help="the rows of one delivery", parents=[common])
    show.set_defaults(run="include.cli.quarantine:show")
    show.add_argument("family", metavar="FAMILY")
    show.add_argument("delivery", metavar="DELIVERY", help="as `windtunnel quarantine list` names it")
    show.add_argument("--reason", help="only rows with this reason")
    show.add_argument("--limit", type=_positive, default=20, help="how many rows (default: 20)")
    show.add_argument("--source", metavar="ID", help="where several sources have a delivery of this name")
    show.add_argument("--export", metavar="FILE", help="write the rows as JSON lines, to be mended and released")
    _add_release(parts.add_parser("release", help="take rows out, as they are or mended", parents=[common]))
    data = commands.add_parser("data", help="ingest data; dataset versions")
    parts = data.add_subparsers(metavar="WHAT", required=True)
    versions = parts.add_parser("versions", help="published dataset versions", parents=[family, common])
    versions.set_defaults(run="include.cli.datasets:versions")
    diff = parts.add_parser("diff", help="what differs between two dataset versions", parents=[common])
    diff.set_defaults(run="include.cli.datasets:diff")
    diff.add_argument("family", metavar="FAMILY")
    diff.add_argument("before", metavar="V1")
    diff.add_argument("after", metavar="V2")
    quality = parts.add_parser("quality", help="how good the data is, and what to do about it", parents=[common])
    quality.set_defaults(run="include.cli.quality:quality")
    quality.add_argument("family", nargs="?", metavar="FAMILY", help="may be left out where there is only one")
    quality.add_argument("version", nargs="?", metavar="VERSION", help="default: all versions beside each other")
    ingest = parts.add_parser(
        "ingest", help="ingest, validate and publish now, without Airflow", parents=[family, common]
    )
    ingest.set_defaults(run="include.cli.ingest:ingest")
    ingest.add_argument("--source", metavar="NAME", help="one declared source, or another folder or URL instead of all")
    ingest.add_argument("--interval", nargs=2, metavar=("A", "B"), help="deliveries of the days from A to before B")
    ingest.add_argument("--profile", help="profile of the spec")


def _add_release(release: argparse.ArgumentParser) -> None:
    release.description = (
        "Makes a delivery of rows in quarantine, which the next run checks like any other. Either waive the reasons "
        "that are not to count for these rows, or give the file of `quarantine show --export` with other values."
    )
    release.set_defaults(run="include.cli.quarantine:release")
    release.add_argument("family", metavar="FAMILY")
    release.add_argument("delivery", metavar="DELIVERY", help="as `windtunnel quarantine list` names it")
    release.add_argument("--source", metavar="ID", help="where several sources have a delivery of this name")
    release.add_argument("--waive", action="append", default=[], metavar="REASON", help="does not count for these rows")
    rows = release.add_mutually_exclusive_group()
    rows.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="PLACE",
        help="place or key of a row (default: every row that has no other reasons than the waived ones)",
    )
    rows.add_argument("--file", metavar="FILE", help="mended rows; those with unchanged values stay in quarantine")
    release.add_argument("--reason", required=True, metavar="WHY", help="kept in the ledger")
    release.add_argument("--by", required=True, metavar="NAME", help="who decided it; kept in the ledger")


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
