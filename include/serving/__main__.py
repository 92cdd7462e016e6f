"""Starts a gateway: `python -m include.serving --host 127.0.0.1 --port 8900`.

On SIGTERM or Ctrl-C it stops accepting, finishes the requests in flight, writes the prediction log and exits with 0.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Sequence

from include.errors import UserError, WindtunnelError
from include.serving.config import GatewayConfig
from include.serving.gateway import Gateway
from include.serving.server import BACKLOG, GatewayServer
from include.settings import Settings

EXIT_FAILED, EXIT_USAGE = 1, 2
_SWITCH_SECONDS = 0.001


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until it is told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m include.serving", description="Serves the models that the ledger names."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8900, help="0 takes a free port, which is printed")
    parser.add_argument("--workers", type=int, help="model calls at the same time (default: one per core)")
    parser.add_argument("--allow-open", action="store_true", help="listen beyond this machine without an API key")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        config = GatewayConfig.from_env(
            arguments.host, arguments.port, workers=arguments.workers, allow_open=arguments.allow_open
        )
        listener = _listen(config.host, config.port)
        gateway = Gateway.build(config, Settings.from_env())
    except WindtunnelError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_USAGE
    return _serve(gateway, listener)


def _serve(gateway: Gateway, listener: socket.socket) -> int:
    server = GatewayServer(gateway)
    # uvicorn raises the signal again once it has stopped; by then the work is done and the exit is a clean one
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: None)
    # model threads hold the interpreter in short pieces of Python; a request that is ready must not wait 5 ms for them
    sys.setswitchinterval(_SWITCH_SECONDS)
    host, port = listener.getsockname()[:2]
    print(f"gateway listens on http://{host}:{port}", flush=True)
    server.run(sockets=[listener])
    return 0 if server.started and not gateway.log.pending else EXIT_FAILED


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # who comes before the loop runs waits, and is not refused
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"cannot listen on {host}:{port}: {reason}", where="--port", hint="take another port, or 0 for a free one"
        ) from error
    return listener


if __name__ == "__main__":
    raise SystemExit(main())
