"""Forks pods of a process that has the heavy libraries imported: `python -m include.pods.warm_server FOLDER MINUTES`.

It forks a supervisor per pod, which forks the pod itself: both live on when the server ends, however that ends. It ends
by itself after MINUTES without work, when memory runs short, and when code on the disk is not what it imported.
Python's threads do not survive a fork, and neither does a graphics card that is in use: a server that finds either
after its imports does not serve. The threads that OpenBLAS, jemalloc and Arrow start when they are loaded are no
hindrance: these libraries have handlers for forks, and training forks its ranks over them as well.

`ps` shows each fork as the program that it runs, as if it had been started cold.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import runpy
import select
import shlex
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from include.pods.forking import exit_status, flush_output, import_ahead, no_collection, redirect
from include.pods.supervisor import supervise
from include.pods.warm import KEEP_BYTES, LOCK, SOCKET, STARTED, UNFIT, available_bytes, bound, connection
from include.settings import PROJECT_ROOT
from include.steps.entry import quiet_libraries

#: What the steps import, whichever they are.
_PRELOAD = (
    "include.data.ingest",
    "include.data.validate",
    "include.data.publish",
    "include.training.fit",
    "include.training.sweep",
    "include.training.trial",
    "include.training.trainer",
    "include.training.worker",
    "include.evaluation.step",
    "include.monitoring.drift",
    "include.expectations.gate",
    "lightning.pytorch",
    "mlflow.tracking.fluent",
    "optuna",
    "scipy.stats",
    "alembic.command",
    "deltalake",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "numpy",
)
_TICK_SECONDS = 1.0
_REQUEST_SECONDS = 5.0
_REQUEST_BYTES = 1 << 22


@dataclass(frozen=True)
class _Origin:
    """What the server came from.

    Attributes:
        root: Where our code is.
        code: `code_on_disk` before the imports.
        environment: Variables before the imports.
        close: Closes what is the server's alone; for forks.
    """

    root: Path
    code: str
    environment: dict[str, str]
    close: tuple[Callable[[], None], ...] = ()


def main(folder: Path, minutes: float, preload: Sequence[str] | None = None, root: Path = PROJECT_ROOT) -> int:
    """Serves until there is a reason to end.

    Args:
        folder: The server's own: its socket, its lock and its log.
        minutes: How long it stays without work.
        preload: What it imports; None: what the steps need.
        root: Where the code is whose change ends it.
    """
    lock = (folder / LOCK).open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # another server has this folder
    folder.chmod(0o700)
    (folder / UNFIT).write_text("its last start did not come to an end")  # stays if this one does not either
    _claim_title()
    origin, started = _Origin(root, code_on_disk(root), dict(os.environ)), time.monotonic()
    quiet_libraries()  # before the libraries set up their loggers, as in a step's own process
    with no_collection():
        import_ahead([*_PRELOAD, *_of_families()] if preload is None else preload, _say)
    reason = unfit()
    if reason:
        _say(f"does not serve: {reason}")
        (folder / UNFIT).write_text(reason)
        return 1
    with connection(folder) as (place, listener):
        (folder / SOCKET).unlink(missing_ok=True)
        listener.bind(place)
        listener.listen(64)
        (folder / UNFIT).unlink(missing_ok=True)
        _say(f"ready after {time.monotonic() - started:.1f} s")
        reason = _serve(listener, minutes * 60, replace(origin, close=(lock.close, listener.close)))
        (folder / SOCKET).unlink(missing_ok=True)
    _say(f"ends: {reason}")
    return 0


def _serve(listener: socket.socket, idle_seconds: float, origin: _Origin) -> str:
    """Answers requests; returns why it stopped."""
    last = time.monotonic()
    while True:
        readable, _, _ = select.select([listener], [], [], _TICK_SECONDS)
        _reap()
        if readable:
            client, _ = listener.accept()
            with client:
                reason = _answer(client, origin)
                last = time.monotonic()
            if reason:
                return reason
        if time.monotonic() - last > idle_seconds:
            return f"no pod was started for {idle_seconds / 60:g} minutes"
        if available_bytes() < KEEP_BYTES:
            return "memory runs short"


def _answer(client: socket.socket, origin: _Origin) -> str | None:
    """Starts the pod, or says why not; returns why the server must end, None if it need not."""
    try:
        request = _receive(client)
        if code_on_disk(origin.root) != origin.code:
            client.sendall(b"code has changed since the warm server started")
            return "code on the disk has changed"
        difference = _difference(request, origin)
        if difference:
            client.sendall(f"the warm server cannot start it: {difference}".encode())
            return None
    except (OSError, ValueError, KeyError) as error:  # who asked has gone, or was none of ours
        _say(f"a request was not understood: {type(error).__name__}: {error}")
        return None
    if os.fork() == 0:
        for close in origin.close:
            close()
        _become_supervisor(client, request, origin)
    return None


def _receive(client: socket.socket) -> dict[str, Any]:
    client.settimeout(_REQUEST_SECONDS)
    _, user, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if user != os.getuid():
        raise ValueError(f"it comes from user {user}")
    text = bytearray()
    while chunk := client.recv(1 << 16):
        text += chunk
        if len(text) > _REQUEST_BYTES:
            raise ValueError("it is too long")
    request: dict[str, Any] = json.loads(text)
    return {name: request[name] for name in ("pod", "attempt", "environment", "umask", "cgroup")}


def _difference(request: dict[str, Any], origin: _Origin) -> str:
    """How this process differs from the one that asks, in what a pod would inherit; "" where it does not."""
    asked, own = bound(request["environment"]), bound(origin.environment)
    names = sorted(name for name in asked.keys() | own.keys() if asked.get(name) != own.get(name))
    if names:
        return f"its environment differs in {', '.join(names[:5])}"
    if request["cgroup"] != Path("/proc/self/cgroup").read_text():
        return "it is in another control group"
    return ""


def _become_supervisor(client: socket.socket, request: dict[str, Any], origin: _Origin) -> None:
    """Ends this fork with its supervisor's exit status; the pod's own process leaves it as its program does."""
    os.setsid()
    os.umask(request["umask"])
    _title("include.pods.supervisor", request["pod"])
    set_by_imports = {name: value for name, value in os.environ.items() if origin.environment.get(name) != value}
    os.environ.clear()
    os.environ.update({**request["environment"], **set_by_imports})
    nothing = os.open(os.devnull, os.O_RDWR)
    redirect(nothing)
    os.close(nothing)

    def started() -> None:
        with client, contextlib.suppress(OSError):  # who asked may have gone
            client.sendall(STARTED)

    def launch(spec: dict[str, Any], enter: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            client.close()
            _run(spec, enter)
        return pid

    os._exit(supervise(Path(request["pod"]), launch, attempt=request["attempt"], started=started))


def _run(spec: dict[str, Any], enter: Callable[[], None]) -> NoReturn:
    """Runs `python -m MODULE ARGUMENTS` in this process and ends it as multiprocessing ends its own.

    Python's own end would take the imported modules apart, and with them the memory that is shared with the server.
    """

    def program() -> None:
        enter()
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()  # Python's own does so by itself; torch starts from a constant
        _, _, module, *arguments = spec["command"]
        _title(module, *arguments)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    code = exit_status(program)
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads that are no daemons
    atexit._run_exitfuncs()
    flush_output()
    os._exit(code)


def _claim_title() -> None:
    """Finds the place of this process's command line, for its forks to write theirs into, while the environment is
    still where the kernel put it: that stays as it is, because a stack finds what it started by a variable in it."""
    from setproctitle import getproctitle  # where Airflow is, and so local pods are

    os.environ["SPT_NOENV"] = "1"
    getproctitle()
    del os.environ["SPT_NOENV"]


def _title(module: str, *arguments: str) -> None:
    """What `ps` shows, cut to the length of the server's own command line."""
    from setproctitle import setproctitle

    setproctitle(shlex.join([Path(sys.executable).name, "-m", module, *arguments]))


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _of_families() -> list[str]:
    """The modules with which the families train, where they have one."""
    folder = PROJECT_ROOT / "include" / "families"
    return [f"include.families.{path.parent.name}.lightning_parts" for path in folder.glob("*/lightning_parts.py")]


def code_on_disk(root: Path) -> str:
    """Changes with our code and with what is installed."""
    facts = []
    for path in sorted((root / "include").rglob("*.py")):
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            facts.append((str(path), found.st_mtime_ns, found.st_size))
    for entry in sys.path:
        if entry.endswith("site-packages") and Path(entry).is_dir():
            facts.append((entry, Path(entry).stat().st_mtime_ns, 0))
    return repr(hash(tuple(facts)))


def unfit() -> str:
    """Why this process must not be forked; "" where nothing speaks against it."""
    if threading.active_count() > 1:
        return f"the imports started threads: {', '.join(thread.name for thread in threading.enumerate()[1:])}"
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(handle.readlink())
            if target.startswith(("/dev/nvidia", "/dev/kfd")):
                return f"the imports opened {target}"
    return ""


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} warm server {os.getpid()}: {text}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(main(Path(sys.argv[1]), float(sys.argv[2])))
