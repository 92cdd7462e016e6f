"""The parent of one local pod: `python -m include.pods.supervisor FOLDER`, or a fork of the warm server.

It outlives the Airflow worker that started it, and its pod does not outlive it: it holds a lock for as long as the pod
runs, writes the exit status when it ends, passes SIGTERM on, kills after the grace, and leaves no process behind: as a
"child subreaper" it inherits whatever the pod's own children leave, and if it is killed itself, the kernel kills the
pod. Imports only the standard library, so that starting a pod costs milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from include.pods.cgroup import PodGroup, oom_kills
from include.pods.forking import adopt_orphans, die_with_parent, lead_group, redirect

SPEC_FILE, LOCK_FILE, LOG_FILE, EXIT_FILE, READY_FILE = "spec.json", "lock", "log", "exit.json", "ready"
_POLL_SECONDS = 0.2
_CANNOT_START = 127

#: Starts the pod's process and returns its id. The function that it is given turns the new process into the pod's.
Launch = Callable[[dict[str, Any], Callable[[], None]], int]


def execute(spec: dict[str, Any], enter: Callable[[], None]) -> int:
    """Starts the pod's program in a new process; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    program = spec["command"][0]
    try:
        enter()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; programs do not expect that
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(program, spec["command"], {**os.environ, **spec["env"]})
    except OSError as error:
        os.write(2, f"cannot start {program}: {error}\n".encode())
    finally:
        os._exit(_CANNOT_START)


def supervise(
    folder: Path,
    launch: Launch = execute,
    *,
    attempt: str | None = None,
    started: Callable[[], None] = lambda: None,
) -> int:
    """Runs the pod described in `folder/spec.json` to its end; returns its exit status.

    Args:
        attempt: The start that is meant; if another one was written down since, nothing is done.
        started: Called once the pod runs.
    """
    lock = (folder / LOCK_FILE).open("a")
    if not _lock(lock.fileno()):
        return 0  # another supervisor has this pod: nothing to do
    spec: dict[str, Any] = json.loads((folder / SPEC_FILE).read_text())
    if (folder / EXIT_FILE).exists() or attempt not in (None, spec["attempt"]):
        return 0  # another supervisor had this pod, and it is done
    adopt_orphans()
    stopping: list[float] = []
    begun, killed_before = time.monotonic(), oom_kills()
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.monotonic()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limits = spec.get("limits") or {}
    name = f"windtunnel-{folder.name}-{zlib.crc32(os.fsencode(folder)):08x}"  # two homes may run pods of one name
    group = PodGroup(name, limits.get("memory_bytes"), limits.get("cpus"))
    with (folder / LOG_FILE).open("ab", buffering=0) as log:
        log.write(_limits_line(limits, group))
        own = os.getpid()

        def enter() -> None:
            lead_group()
            die_with_parent(signal.SIGKILL)
            if os.getppid() != own:
                os._exit(_CANNOT_START)  # the supervisor died before the kernel knew what to do about it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            redirect(log.fileno())
            os.chdir(spec["cwd"])
            group.enter()
            if "memory" in group.missing:
                _limit_each_process(limits["memory_bytes"])
            lock.close()

        child = launch(spec, enter)
        lead_group(child)
    (folder / READY_FILE).write_text(str(own))
    started()
    code = _wait(child, stopping, float(spec["grace_seconds"]))
    _end_orphans(child)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of all that was started: orphans became our children
    facts = {
        "seconds": round(time.monotonic() - begun, 3),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "peak_bytes": used.ru_maxrss * (1024 if sys.platform == "linux" else 1),
        "stopped": bool(stopping),
        "oom_kills": group.oom_kills() if group.folders else oom_kills() - killed_before,
    }
    group.remove()
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


def _limits_line(limits: dict[str, Any], group: PodGroup) -> bytes:
    """What the log says about the limits that were asked for; nothing where none was."""
    said = []
    if limits.get("memory_bytes") is not None:
        how = "for each process alone: no control group can be made" if "memory" in group.missing else "control group"
        if "memory" in group.missing and sys.platform != "linux":
            how = "NOT LIMITED: this system has no way"
        said.append(f"memory {limits['memory_bytes'] / 2**20:.0f} MiB ({how})")
    if limits.get("cpus") is not None:
        how = "NOT LIMITED: no control group can be made" if "cpu" in group.missing else "control group"
        said.append(f"cpu {limits['cpus']:g} ({how})")
    return f"limits: {', '.join(said)}\n".encode() if said else b""


def _limit_each_process(memory: int) -> None:
    """Without a control group, each process may have so much private memory, and is refused more."""
    if sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        least = memory if most == resource.RLIM_INFINITY else min(memory, most)
        resource.setrlimit(resource.RLIMIT_DATA, (least, most))


def _wait(child: int, stopping: list[float], grace: float) -> int:
    told = False
    with _ended(child) as ended:
        while True:
            ended(_POLL_SECONDS)
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if stopping and not told:
                _kill_group(child, signal.SIGTERM)
                told = True
            if stopping and time.monotonic() - stopping[0] > grace:
                _kill_group(child, signal.SIGKILL)


@contextlib.contextmanager
def _ended(child: int) -> Any:
    """A function that waits for so many seconds, and less if the child ends and the system can tell."""
    if not hasattr(os, "pidfd_open"):
        yield lambda seconds: time.sleep(seconds / 4)
        return
    handle = os.pidfd_open(child)
    try:
        yield lambda seconds: select.select([handle], [], [], seconds)
    finally:
        os.close(handle)


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
