"""The memory check knows a container's limit: control groups of version 1 and 2, every level, page cache aside."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from qroar_core.errors import OutOfMemory
from qroar_core.models import memory

GIB = 1 << 30


def written(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def v2(where: str, most: object, used: int, inactive: int = 0) -> dict[str, object]:
    return {f"sys/fs/cgroup{where}/memory.max": most, f"sys/fs/cgroup{where}/memory.current": used,
            f"sys/fs/cgroup{where}/memory.stat": f"anon 1\ninactive_file {inactive}"}  # fmt: skip


def v1(where: str, most: object, used: int, inactive: int = 0) -> dict[str, object]:
    at = f"sys/fs/cgroup/memory{where}"
    return {f"{at}/memory.limit_in_bytes": most, f"{at}/memory.usage_in_bytes": used,
            f"{at}/memory.stat": f"inactive_file 7\ntotal_inactive_file {inactive}"}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"proc/self/cgroup": "0::/"} | v2("", 4 * GIB, GIB), [3 * GIB]),
        ({"proc/self/cgroup": "0::/"} | v2("", 4 * GIB, 3 * GIB, GIB), [2 * GIB]),  # file pages can be dropped
        ({"proc/self/cgroup": "0::/"} | v2("", "max", GIB), []),
        ({"proc/self/cgroup": "0::/a/b"} | v2("/a/b", "max", GIB) | v2("/a", 2 * GIB, GIB), [GIB]),  # the level above
        ({"proc/self/cgroup": "0::/docker/1234"} | v2("", 4 * GIB, GIB), [3 * GIB]),  # mounted as the root inside
        ({"proc/self/cgroup": "0::/../../x"} | v2("/x", 4 * GIB, GIB), [3 * GIB]),
        ({"proc/self/cgroup": "5:cpu:/\n4:memory:/job"} | v1("/job", 8 * GIB, 6 * GIB, GIB), [3 * GIB]),
        ({"proc/self/cgroup": "4:cpu,memory:/"} | v1("", 8 * GIB, 6 * GIB), [2 * GIB]),
        ({"proc/self/cgroup": "4:memory:/"} | v1("", 9223372036854771712, 6 * GIB), []),  # version 1's "no limit"
        ({"proc/self/cgroup": "0::/"} | v2("", GIB, 2 * GIB), [0]),
        ({"proc/self/cgroup": "nonsense"}, []),
        ({}, []),  # not Linux
    ],
)  # fmt: skip
def test_what_the_groups_leave(tmp_path, files, left):
    assert memory.container_bytes(written(tmp_path, files)) == left


def test_the_check_takes_the_least_of_machine_and_container(monkeypatch, tiny):
    monkeypatch.setattr(memory, "container_bytes", lambda: [5 * GIB, 3000])
    assert memory.free_bytes(torch.device("cpu")) == 3000
    with pytest.raises(OutOfMemory, match="choose a length of at most 5 tokens"):  # 512 bytes a token, 0.9 of 3000
        memory.require_room(tiny(), 64)
    monkeypatch.setattr(memory, "container_bytes", lambda: [])
    assert memory.free_bytes(torch.device("cpu")) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
