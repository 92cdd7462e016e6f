"""The kernel's counter of processes that it killed for want of memory, in both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.pods.cgroup import oom_kills


def _files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = "low 0\nhigh 3\nmax 12\noom 2\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({"proc/self/cgroup": "0::/pod\n", "sys/fs/cgroup/pod/memory.events": V2}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.events": V2}, 2),
        ({"proc/self/cgroup": "4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.oom_control": V1}, 5),
        ({"proc/self/cgroup": "4:cpu,memory:/host/only\n", "sys/fs/cgroup/memory/memory.oom_control": V1}, 5),
        ({"proc/self/cgroup": "2:cpu:/a\n"}, 0),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.events": "oom_kill many\n"}, 0),
        ({}, 0),
    ],
)
def test_the_counter_is_found(tmp_path: Path, files: dict[str, str], kills: int) -> None:
    assert oom_kills(_files(tmp_path, files)) == kills
