"""Python's server of forks, with what the tests that ask for it need imported."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_warm = [""]


def forks_of(module: str) -> ForkServerContext:
    """Processes that are forked from a server that has imported `module`.

    A process has one such server, and one that runs stays as it is: that of other tests is ended first.
    """
    context = multiprocessing.get_context("forkserver")
    if _warm != [module]:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # CPython has it for its own tests
        context.set_forkserver_preload([module])
        _warm[:] = [module]
    return context
