"""The parent of one local pod: `python -m include.pods.supervisor FOLDER`.

It outlives the Airflow worker that started it, and its pod does not outlive it: it holds a lock for as long as the pod
runs, writes the exit status when it ends, passes SIGTERM on, kills after the grace, and leaves no process behind: as a
"child subreaper" it inherits whatever the pod's own children leave, and if it is killed itself, the kernel kills the
pod. Imports only the standard library, so that starting a pod costs milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from include.pods.cgroup import oom_kills

SPEC_FILE, LOCK_FILE, LOG_FILE, EXIT_FILE, READY_FILE = "spec.json", "lock", "log", "exit.json", "ready"

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _in_child() -> None:
    os.setpgid(0, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def supervise(folder: Path) -> int:
    """Runs the pod described in `folder/spec.json` to its end; returns its exit status."""
    lock = (folder / LOCK_FILE).open("a")
    if not _lock(lock.fileno()):
        return 0  # another supervisor has this pod: nothing to do
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    spec: dict[str, Any] = json.loads((folder / SPEC_FILE).read_text())
    stopping: list[float] = []
    started, killed_before = time.monotonic(), oom_kills()
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.monotonic()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (folder / LOG_FILE).open("ab", buffering=0) as log:
        try:
            child = subprocess.Popen(
                spec["command"],
                env={**os.environ, **spec["env"]},
                cwd=spec["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_in_child,  # noqa: PLW1509 - no threads here, and the death signal needs it
            )
        except OSError as error:
            log.write(f"cannot start {spec['command'][0]}: {error}\n".encode())
            _write(folder, 127, {})
            return 127
        (folder / READY_FILE).write_text(str(os.getpid()))
        code = _wait(child, stopping, float(spec["grace_seconds"]))
    _end_orphans(child.pid)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of all that was started: orphans became our children
    facts = {
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "peak_bytes": used.ru_maxrss * (1024 if sys.platform == "linux" else 1),
        "stopped": bool(stopping),
        "oom_kills": oom_kills() - killed_before,
    }
    _write(folder, code, facts)
    return code


def _lock(handle: int) -> bool:
    """Takes the pod's lock. Tries for a moment: somebody who only asks for the status holds it for an instant."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def _wait(child: subprocess.Popen[bytes], stopping: list[float], grace: float) -> int:
    told = False
    while True:
        try:
            code = child.wait(timeout=0.2)
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            pass
        if stopping and not told:
            _kill_group(child.pid, signal.SIGTERM)
            told = True
        if stopping and time.monotonic() - stopping[0] > grace:
            _kill_group(child.pid, signal.SIGKILL)


def _kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _end_orphans(group: int) -> None:
    """Ends what the pod left running: its group, and its descendants in other groups, which are now our children."""
    _kill_group(group, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.02)


def _children() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def _write(folder: Path, code: int, facts: dict[str, Any]) -> None:
    temporary = folder / f"{EXIT_FILE}.tmp"
    temporary.write_text(json.dumps({"code": code, "at": time.time(), **facts}))
    os.replace(temporary, folder / EXIT_FILE)


if __name__ == "__main__":
    raise SystemExit(supervise(Path(sys.argv[1])))
