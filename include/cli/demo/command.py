"""`windtunnel demo`: runs the demo, tells how it went, and stops what it started."""

from __future__ import annotations

import argparse
import signal
import time
from dataclasses import asdict, replace
from typing import Any

from include.cli.demo.driver import Demo, Refused
from include.cli.demo.plan import choose_profile, make_plan, remember
from include.cli.demo.record import DemoRecord
from include.cli.demo.summary import show_summary
from include.cli.output import Output
from include.cli.stack import show_addresses
from include.embedded.layout import Layout, write_json
from include.embedded.stack import Stack
from include.errors import WindtunnelError
from include.settings import Settings

EXIT_OK, EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 0, 1, 3, 130


def demo(arguments: argparse.Namespace, out: Output) -> int:
    """Runs a demo; see `include.cli.main` for the exit status."""
    began = time.monotonic()
    profile = choose_profile(arguments.family, arguments.profile, arguments.source)
    settings = replace(Settings.from_env(), profile=profile)
    layout = Layout(settings.home)
    layout.make()
    plan = make_plan(
        layout.demo_history,
        arguments.family,
        profile=profile,
        source=arguments.source,
        seed=arguments.seed,
        trials=arguments.trials,
        rate=arguments.rate,
    )
    record = DemoRecord(family=plan.family, plan=asdict(plan))
    run = Demo(settings, plan, record, out)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = _run(run, record, out)
        record.wall_seconds = round(time.monotonic() - began, 1)
        _finish(layout, record, out, code)
        if not arguments.exit:
            _stay_up(run.stack, out)
        return code
    except KeyboardInterrupt:
        out.line("\ninterrupted", style="yellow")
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
        run.stack.stop()
        out.line("stopped")


def _run(run: Demo, record: DemoRecord, out: Output) -> int:
    try:
        run.run()
    except Refused as refusal:
        record.error = refusal.to_json()
        out.line(f"\nnot released: {refusal.message}", style="yellow")
        return EXIT_REFUSED
    except WindtunnelError as error:
        record.error = error.to_json()
        out.error(error)
        return EXIT_FAILED
    return EXIT_OK


def _finish(layout: Layout, record: DemoRecord, out: Output, code: int) -> None:
    """Writes the record, and shows it."""
    document = record.to_json()
    write_json(layout.demo, {**document, "exit_code": code})
    if record.gate.get("verdict") and code in (EXIT_OK, EXIT_REFUSED):
        keys: tuple[str, ...] = ("family", "model_version", "verdict", "promoted", "wall_seconds")
        history: dict[str, Any] = {key: document[key] for key in keys}
        remember(layout.demo_history, history)
    show_summary(document, out)
    if out.as_json:
        out.document({**document, "exit_code": code})


def _stay_up(stack: Stack, out: Output) -> None:
    """Until Ctrl-C, or until the stack is stopped from elsewhere."""
    view = stack.view()
    if view is None:
        return
    out.line()
    show_addresses(view, stack, out)
    out.line("the system stays up: Ctrl-C stops it")
    try:
        while stack.running():
            time.sleep(0.5)
    except KeyboardInterrupt:
        out.line()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
