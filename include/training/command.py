"""The command line of the training package: its steps, and the part in `fit` of pods that only help."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from include.errors import FINAL_KINDS, WindtunnelError
from include.steps.entry import EXIT_FINAL, EXIT_OK, EXIT_RETRY, Step, StepContext
from include.steps.entry import main as run_command
from include.training.node import Node

_STEPS = {"fit": "include.training.fit:fit", "sweep": "include.training.sweep:sweep"}
_HELP = {"fit": "include.training.fit:help_fit"}


def main(program: str, argv: Sequence[str] | None = None) -> int:
    """Runs a step; on another node than the first of several, its part of the work alone."""
    if Node.from_env().rank == 0:
        return run_command(_STEPS, program, argv)
    return run_command(_HELP, program, argv, run_part)


def run_part(context: StepContext, step: Step) -> int:
    """Runs a node's part: result, error record and lineage are node 0's to write, which learns of a failure here."""
    if context.store.exists(context.document.result_key):
        print(f"{context.document.step}: already done", flush=True)
        return EXIT_OK
    try:
        step(context)
    except WindtunnelError as error:
        print(f"{context.document.step} failed ({error.kind.value} error)\n{error}", file=sys.stderr, flush=True)
        return EXIT_FINAL if error.kind in FINAL_KINDS else EXIT_RETRY
    return EXIT_OK
