"""`windtunnel rollout`: a person pauses, resumes, aborts or promotes the rollout that is under way."""

from __future__ import annotations

import argparse
import getpass
from datetime import UTC, datetime
from typing import Any

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output


def add_rollout(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    family: argparse.ArgumentParser,
) -> None:
    """Adds `rollout` and what belongs to it."""
    rollout = commands.add_parser("rollout", help="pause, resume, abort or promote the rollout that is under way")
    parts = rollout.add_subparsers(metavar="WHAT", required=True)

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        command = parts.add_parser(name, help=help_, description=help_, parents=[family, common])
        command.set_defaults(run=f"include.cli.rollout:{name}")
        command.add_argument("--reason", required=True, help="kept in the ledger")
        return command

    add("pause", "hold the traffic where it is; a bad candidate still comes down")
    add("resume", "end a pause; the stage's time goes on where it stood")
    add("abort", "take the traffic back to the champion now, and end the rollout")
    promote = add("promote", "end the wait for evidence in this stage, where nothing fails")
    promote.add_argument("--full", action="store_true", help="and in those before the first with all traffic")


def pause(arguments: argparse.Namespace, out: Output) -> int:
    """Holds the traffic."""
    family, done = _steer("pause", arguments)
    held = f"stage {done['stage']}" if done["stage"] else "before its first stage"
    by = "" if done["changed"] else f" already, by {done['paused']['actor']}: {done['paused']['reason']}"
    return _told(out, done, f"{family}: the rollout of {done['version']} is paused{by} ({held})")


def resume(arguments: argparse.Namespace, out: Output) -> int:
    """Ends a pause."""
    family, done = _steer("resume", arguments)
    how = "goes on" if done["changed"] else "was not paused"
    return _told(out, done, f"{family}: the rollout of {done['version']} {how} (stage {done['stage'] or '-'})")


def abort(arguments: argparse.Namespace, out: Output) -> int:
    """Takes the traffic back now."""
    family, done = _steer("abort", arguments)
    serving = f"version {done['to']} has all traffic" if done["to"] else done["note"]
    return _told(out, done, f"{family}: the rollout of {done['version']} has ended; {serving}")


def promote(arguments: argparse.Namespace, out: Output) -> int:
    """Moves on without waiting for more evidence."""
    family, done = _steer("promote", arguments, full=arguments.full)
    waved = ", ".join(done["waved_on"])
    return _told(out, done, f"{family}: {done['version']} moves on from {waved} as soon as it was looked at once more")


def _steer(what: str, arguments: argparse.Namespace, **named: Any) -> tuple[str, dict[str, Any]]:
    from include.release import steering

    family, actor = chosen_family(arguments.family), f"{getpass.getuser()} via windtunnel rollout"
    done = getattr(steering, what)(
        live_settings(), family, reason=arguments.reason, actor=actor, at=datetime.now(UTC), **named
    )
    return family, done


def _told(out: Output, done: dict[str, Any], sentence: str) -> int:
    if out.as_json:
        out.document(done)
    else:
        out.line(sentence, style="bold")
    return 0
