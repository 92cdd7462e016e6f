"""Control groups, both versions: what this process may use, who was killed for want of memory, and a group for a pod.

v2: https://docs.kernel.org/admin-guide/cgroup-v2.html; v1: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
and https://docs.kernel.org/scheduler/sched-bwc.html. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_PERIOD = 100_000  # microseconds over which processor time is counted: the kernel's default


def oom_kills(root: Path = _ROOT) -> int:
    """Processes of this process's group that were killed so far; 0 where no control group says so.

    Args:
        root: Of the file system, for tests.
    """
    for folder in _own("memory", root):
        found = _oom_kills(folder)
        if found is not None:
            return found
    return 0


def quota(root: Path = _ROOT) -> float | None:
    """Cores that this process's group may use at most; None where nothing limits them."""
    for folder in _own("cpu", root):
        with contextlib.suppress(OSError, ValueError):
            if (folder / "cpu.max").exists():
                most, period = (folder / "cpu.max").read_text().split()
                return None if most == "max" else int(most) / int(period)
            microseconds = int((folder / "cpu.cfs_quota_us").read_text())
            return None if microseconds < 0 else microseconds / int((folder / "cpu.cfs_period_us").read_text())
    return None


class PodGroup:
    """The control group, or with v1 the groups, of one pod: under that of this process, whose limits hold as well.

    A group of this name that a killed supervisor left is taken over.

    Attributes:
        folders: The group in each of the hierarchies that it needs.
        missing: Of `memory` and `cpu`, those that were to be limited and that no group could be made for.
    """

    def __init__(self, name: str, memory: int | None, cpus: float | None, root: Path = _ROOT) -> None:
        """Makes the group; never raises.

        Args:
            memory: Bytes; None: as much as there is.
            cpus: Cores; None: all.
        """
        self.folders: list[Path] = []
        wanted = {"memory": memory, "cpu": cpus}
        self.missing = {
            controller
            for controller, value in wanted.items()
            if value is not None and not self._limit(controller, name, value, root)
        }
        self._killed_before = self._kills()

    def enter(self) -> None:
        """Moves this process into the group. Raises `OSError`."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def oom_kills(self) -> int:
        """Processes of the pod that were killed for want of memory since the group was made."""
        return self._kills() - self._killed_before

    def remove(self) -> None:
        """Removes the group once it is empty; one that is not stays, and is taken over by the next of its name."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _kills(self) -> int:
        return sum(_oom_kills(folder) or 0 for folder in self.folders)

    def _limit(self, controller: str, name: str, value: float, root: Path) -> bool:
        for parent in _own(controller, root):
            with contextlib.suppress(OSError):
                if (parent / "cgroup.controllers").exists():  # v2 asks the parent to hand the controller down
                    with contextlib.suppress(OSError):
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}")
                folder = parent / name
                folder.mkdir(exist_ok=True)
                try:
                    _write(folder, controller, value)
                except OSError:
                    folder.rmdir()
                    raise
                if folder not in self.folders:
                    self.folders.append(folder)
                return True
        return False


def _write(folder: Path, controller: str, value: float) -> None:
    """Raises `OSError` where the group does not take the limit."""
    if controller == "cpu":
        microseconds = max(1000, int(value * _PERIOD))
        if (folder / "cgroup.controllers").exists():
            _set(folder / "cpu.max", f"{microseconds} {_PERIOD}")
        else:
            _set(folder / "cpu.cfs_period_us", str(_PERIOD))
            _set(folder / "cpu.cfs_quota_us", str(microseconds))
        return
    v2 = (folder / "cgroup.controllers").exists()
    _set(folder / ("memory.max" if v2 else "memory.limit_in_bytes"), str(int(value)))
    with contextlib.suppress(OSError):  # what does not fit is killed, as in a cluster, and does not crawl through swap
        _set(folder / ("memory.swap.max" if v2 else "memory.memsw.limit_in_bytes"), "0" if v2 else str(int(value)))


def _set(path: Path, value: str) -> None:
    with path.open("r+") as file:  # the kernel makes these files: one that is not there is a controller that is missing
        file.write(value)


def _oom_kills(folder: Path) -> int | None:
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError, ValueError):
            for line in (folder / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return None


def _own(controller: str, root: Path) -> Iterator[Path]:
    """Where this process's group may be: in a container, its path is often that of the host and not to be seen."""
    mount = root / "sys/fs/cgroup"
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for group in groups:
        _, controllers, path = [*group.split(":", 2), "", ""][:3]
        if controllers == "":
            yield from _existing(mount / path.lstrip("/"))
            if path != "/":
                yield from _existing(mount)
        elif controller in controllers.split(","):
            for hierarchy in {mount / controllers: None, mount / controller: None}:
                yield from _existing(hierarchy / path.lstrip("/"))
                if path != "/":
                    yield from _existing(hierarchy)


def _existing(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield folder
