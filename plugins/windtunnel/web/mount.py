"""Where the pages are mounted, and the application that Airflow mounts.

Airflow imports its plugins in every component, workers and the DAG processor included. Only the API server ever calls
the application, so it is made when the first request comes.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

PREFIX = "/windtunnel"

_App = Callable[[Any, Any, Any], Awaitable[None]]


class LazyApp:
    """An ASGI application that is made on its first request."""

    def __init__(self, make: Callable[[], _App]) -> None:
        self._make = make
        self._made: _App | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._lock:
            if self._made is None:
                self._made = self._make()
        await self._made(scope, receive, send)


def pages() -> _App:
    """The pages, ready to be mounted."""
    from plugins.windtunnel.web.app import make_app

    return make_app()
