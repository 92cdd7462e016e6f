"""A supervisor of small stand-in services: `python stack_services.py [KIND ...]`, run in place of the real one.

Kinds: `good` answers; `broken` ends at once with a telling last line; `stubborn` ignores SIGTERM; `parent` leaves a
child in another session behind, as a pod of a running step does.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

from include.embedded import herd
from include.embedded.credentials import Secrets
from include.embedded.layout import Layout
from include.embedded.ports import LOOPBACK, Ports
from include.embedded.processes import MARK
from include.embedded.services import Service, stack_environment
from include.embedded.supervisor import main
from include.settings import Settings

_SERVER = """
import http.server, signal, subprocess, sys
kind, port = sys.argv[1], int(sys.argv[2])
if kind == "broken":
    sys.exit("the thing that was wrong")
if kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind == "parent":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print("child", child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *_): pass
http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def build(settings: Settings, ports: Ports, secrets: Secrets) -> list[Service]:
    layout, free = Layout(settings.home), list(asdict(ports).values())
    environment = {**stack_environment(settings, ports), MARK: str(settings.home)}
    services = []
    for kind, port in zip(sys.argv[1:] or ["good"], free, strict=False):
        url = f"http://{LOOPBACK}:{port}"
        command = (sys.executable, "-c", _SERVER, kind, str(port))
        services.append(Service(kind, kind, command, environment, layout.log(kind), url, url))
    return services


if __name__ == "__main__":
    herd.CAME_UP_SECONDS = float(os.environ.get("WINDTUNNEL_TEST_CAME_UP", herd.CAME_UP_SECONDS))
    raise SystemExit(main(build))
