"""Starts a gateway: `python -m include.serving --host 127.0.0.1 --port 8900`.

On SIGTERM or Ctrl-C it stops accepting, finishes the requests in flight, writes the prediction log and exits with 0.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from include.errors import UserError, WindtunnelError
from include.serving.board import Board
from include.serving.config import GatewayConfig
from include.serving.logs import log_directly
from include.serving.server import BACKLOG
from include.serving.stats import CountMemory
from include.serving.supervisor import EXIT_USAGE, Supervisor
from include.serving.tracing import tracing_wanted
from include.serving.worker import Common, work
from include.settings import Settings
from include.store.objects import open_store


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until it is told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m include.serving", description="Serves the models that the ledger names."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8900, help="0 takes a free port, which is printed")
    parser.add_argument("--workers", type=int, help="processes that serve (default: one per core, at most four)")
    parser.add_argument("--threads", type=int, help="model calls at the same time in each of them (default: the cores)")
    parser.add_argument("--allow-open", action="store_true", help="listen beyond this machine without an API key")
    arguments = parser.parse_args(argv)
    try:
        config = GatewayConfig.from_env(
            arguments.host,
            arguments.port,
            workers=arguments.workers,
            threads=arguments.threads,
            allow_open=arguments.allow_open,
        )
        settings = Settings.from_env()
        open_store(settings.store_url)  # what workers could not start with is said before there are any
        tracing_wanted(os.environ)
        listener = _listen(config.host, config.port)
    except WindtunnelError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_USAGE
    log_directly(config)
    with tempfile.TemporaryDirectory(prefix="windtunnel-gateway-", ignore_cleanup_errors=True) as folder:
        board = Board(config.workers)
        counts = [CountMemory.make() for _ in range(config.workers)]
        common = Common(config, settings, listener, board, counts, uuid.uuid4().hex[:8], Path(folder))
        host, port = listener.getsockname()[:2]
        print(f"gateway listens on http://{host}:{port}", flush=True)
        supervisor = Supervisor(
            board,
            partial(work, common),
            listener.close,
            grace=config.drain_seconds + config.grace_seconds,
            hang=config.hang_seconds,
            load=config.load_seconds,
        )
        return supervisor.run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # who comes before a worker is there waits, and is not refused
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"cannot listen on {host}:{port}: {reason}", where="--port", hint="take another port, or 0 for a free one"
        ) from error
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    raise SystemExit(main())
