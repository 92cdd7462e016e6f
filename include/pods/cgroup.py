"""How often the kernel killed for want of memory in this process's control group. Standard library only.

v2: `memory.events`, key `oom_kill` (https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files);
v1: `memory.oom_control`, key `oom_kill` (since Linux 4.13).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int:
    """Processes killed so far; 0 where no control group says so.

    Args:
        root: Of the file system, for tests.
    """
    for path in _candidates(root):
        try:
            for line in path.read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            continue
    return 0


def _candidates(root: Path) -> Iterator[Path]:
    """Where the counter may be: in a container, the group's path is often that of the host and not to be seen."""
    mount = root / "sys/fs/cgroup"
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for group in groups:
        _, controllers, path = [*group.split(":", 2), "", ""][:3]
        if controllers == "":
            yield mount / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield mount / "memory" / path.lstrip("/") / "memory.oom_control"
            yield mount / "memory" / "memory.oom_control"
