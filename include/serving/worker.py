"""What a worker process of the gateway does: serve, on the socket that all workers share."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from include.serving.acceptor import Acceptor, CountedConnections
from include.serving.board import Board
from include.serving.config import GatewayConfig
from include.serving.gateway import Gateway, Shared
from include.serving.logs import ServingLog
from include.serving.seat import WorkerSeat
from include.serving.server import GatewayServer
from include.serving.stats import CountMemory
from include.serving.supervisor import STOP_SIGNALS
from include.settings import Settings

log = logging.getLogger(__name__)

_SWITCH_SECONDS = 0.001


@dataclass(frozen=True)
class Common:
    """What all workers of a gateway have in common; made before they are forked.

    Attributes:
        name: Tells this gateway from those before and beside it.
        folder: Where the workers' own sockets lie.
    """

    config: GatewayConfig
    settings: Settings
    listener: socket.socket
    board: Board
    counts: Sequence[CountMemory]
    name: str
    folder: Path


def work(common: Common, slot: int, line: socket.socket) -> None:
    """Serves until this process is told to stop, or its supervisor is gone; ends the process."""
    # uvicorn raises the signal again once it has stopped; by then the work is done and the exit is a clean one
    for name in STOP_SIGNALS:
        signal.signal(name, lambda *_: None)
    # model threads hold the interpreter in short pieces of Python; a request that is ready must not wait 5 ms for them
    sys.setswitchinterval(_SWITCH_SECONDS)
    lines = ServingLog(common.config)
    seat = WorkerSeat(common.board, slot, line, orphaned=partial(os.kill, os.getpid(), signal.SIGTERM))
    gateway = Gateway.build(common.config, common.settings, Shared(seat, common.counts, common.name, common.folder))
    server = _Server(gateway, common.listener)
    server.run(sockets=[])
    lines.close()
    sys.exit(0 if server.started and not gateway.log.pending else 1)


class _Server(GatewayServer):
    """A gateway's server on the socket that the workers share."""

    def __init__(self, gateway: Gateway, listener: socket.socket) -> None:
        super().__init__(gateway)
        self._listener = listener
        self._acceptor: Acceptor | None = None
        self.server_state.connections = CountedConnections(gateway.seat.board, gateway.seat.slot)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # from here on uvicorn deals with them
        await super().startup(sockets=sockets)
        seat = self._gateway.seat
        self._acceptor = Acceptor(self._listener, seat.board, seat.slot, self._protocol, self.server_state.connections)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            self._acceptor.stop()
        await super().shutdown(sockets=sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
