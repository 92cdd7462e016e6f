"""`windtunnel target`: where models are served, what runs there, and what a person can do about it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from include.cli.context import live_settings
from include.cli.output import Output
from include.errors import UserError

if TYPE_CHECKING:
    from include.targets.contract import TargetStatus


def add_target(commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds `target` and what belongs to it."""
    target = commands.add_parser("target", help="where models are served: status, deploy, scale, undeploy, render")
    parts = target.add_subparsers(metavar="WHAT", required=True)

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        command = parts.add_parser(name, help=help_, description=help_, parents=[common])
        command.set_defaults(run=f"include.cli.target:{name}")
        return command

    add("status", "which gateways run, since when, which models they serve, and why not")
    add("deploy", "make what runs what the serving spec says, and wait until it serves (a release does the same)")
    scale = add("scale", "at least so many gateways, until told otherwise; the autoscaler may add more")
    scale.add_argument("replicas", type=int, nargs="?", help="how many")
    scale.add_argument("--reset", action="store_true", help="as many as the serving spec says again")
    undeploy = add("undeploy", "take away all that `deploy` made: nothing is served any more")
    undeploy.add_argument("--yes", action="store_true", help="really; without it, what would end is shown")
    add("render", "the manifests, for a cluster that is not asked; `kubectl apply --server-side -f -` takes them")


def status(arguments: argparse.Namespace, out: Output) -> int:
    """Shows what runs; 1 where it does not serve as it should."""
    from include.targets.contract import TargetPhase
    from include.targets.open import open_target

    found = open_target(live_settings()).status()
    _show(found, out)
    return 0 if found.phase in (TargetPhase.READY, TargetPhase.PROGRESSING) else 1


def deploy(arguments: argparse.Namespace, out: Output) -> int:
    """Brings it up."""
    from dataclasses import asdict

    from include.targets.open import open_target

    done = open_target(live_settings(), progress=lambda line: out.line(f"  {line}")).deploy()
    if out.as_json:
        out.document(asdict(done))
        return 0
    for line in done.changed:
        out.line(f"  changed: {line}")
    for line in done.taken_back:
        out.line(f"  taken back: {line}", style="yellow")
    if done.left_out:
        out.line(f"  left out, the cluster does not know it: {', '.join(done.left_out)}")
    out.line(f"{'deployed' if done.changed else 'nothing to change'} ({done.seconds:.1f} s)", style="bold")
    return 0


def scale(arguments: argparse.Namespace, out: Output) -> int:
    """Asks for more or fewer gateways."""
    from include.targets.open import open_target

    if (arguments.replicas is None) != arguments.reset:
        raise UserError("say how many gateways, or --reset", hint="such as `windtunnel target scale 4`")
    _show(open_target(live_settings()).scale(arguments.replicas), out)
    return 0


def undeploy(arguments: argparse.Namespace, out: Output) -> int:
    """Takes it away."""
    from include.targets.open import open_target

    target = open_target(live_settings(), progress=lambda line: out.line(f"  {line}"))
    if not arguments.yes:
        found = target.status()
        serves = ", ".join(sorted(found.models)) or "no family"
        raise UserError(
            f"{found.ready} gateways would end, which serve {serves}",
            where=found.where,
            hint="say --yes if you mean it",
        )
    gone = target.undeploy()
    if out.as_json:
        out.document({"undeployed": gone})
    else:
        out.line("undeployed" if gone else "there was nothing to take away", style="bold")
    return 0


def render(arguments: argparse.Namespace, out: Output) -> int:
    """Prints the manifests."""
    import json

    import yaml

    from include.spec.serving import TargetKind, read_serving
    from include.targets.manifest import plan

    settings = live_settings()
    spec = read_serving(settings.serving_spec)
    if spec.target is TargetKind.LOCAL:
        raise UserError("a local target has no manifests", where="WINDTUNNEL_SERVING_SPEC", hint="target: kubernetes")
    objects = list(plan(spec).objects)
    if out.as_json:
        out.document(objects)
    else:
        plain = json.loads(json.dumps(objects))  # no anchors, no tuples
        print(yaml.safe_dump_all(plain, sort_keys=False, width=118), end="")
    return 0


def _show(found: TargetStatus, out: Output) -> None:
    if out.as_json:
        out.document(found.to_json())
        return
    since = f" since {found.since:%Y-%m-%d %H:%M} UTC" if found.since else ""
    bounds = f" (autoscaler: {found.floor} to {found.ceiling})" if found.floor is not None else ""
    out.line(f"{found.kind} {found.where}: {found.phase.value}{since}", style="bold")
    if found.image:
        out.line(f"image: {found.image}")
    if found.replicas or found.wanted:
        out.line(f"gateways: {found.ready} of {found.wanted} are ready{bounds}")
    rows = [(*_replica(replica), replica.why or "serves") for replica in found.replicas]
    if rows:
        out.table(["gateway", "ready", "since", "restarts", "image", "generations", "what"], rows)
    models = [
        (
            family,
            item["version"],
            item["role"],
            "shadow" if item["shadow"] else f"{item['share']:.0%}",
            item["digest"][:12],
        )
        for family, variants in found.models.items()
        for item in variants
    ]
    if models:
        out.table(["family", "version", "role", "traffic", "digest"], models)
    for sentence in found.why:
        out.line(f"  {sentence}", style="yellow")
    if found.left_out:
        out.line(f"left out, the cluster does not know it: {', '.join(found.left_out)}")


def _replica(replica: Any) -> tuple[Any, ...]:
    generations = ", ".join(f"{family} {number}" for family, number in replica.generations.items())
    image = replica.image.rpartition("@")[2].removeprefix("sha256:")[:12]
    since = f"{replica.since:%m-%d %H:%M:%S}" if replica.since else None
    return replica.name, replica.ready, since, replica.restarts, image, generations
