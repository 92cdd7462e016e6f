"""A real HTTP server that answers by a script."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server says next; with `cut` it promises more than it sends."""

    body: bytes = b'{"a": 1}\n'
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class ScriptedServer:
    """A real server with a script; the last answer for a path is said again and again."""

    def __init__(self) -> None:
        self.script: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                answers = outer.script.get(self.path, [Answer(b"", 404)])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                known = answer.headers.get("ETag")
                if known and self.headers.get("If-None-Match") == known:
                    answer = Answer(b"", 304, {"ETag": known})
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 304:
                    self.send_header("Content-Length", str(len(answer.body) + 100 * answer.cut))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
