"""The memory check knows a container's limit: control groups of version 1 and 2, every level, page cache aside."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import OutOfMemory
from qroar_core.models import memory
from qroar_core.models.text import Document
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

GIB = 1 << 30


def written(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def v2(where: str, most: object, used: int, inactive: int = 0) -> dict[str, object]:
    return {
        f"sys/fs/cgroup{where}/memory.max": most,
        f"sys/fs/cgroup{where}/memory.current": used,
        f"sys/fs/cgroup{where}/memory.stat": f"anon 1\ninactive_file {inactive}",
    }


def v1(where: str, most: object, used: int, inactive: int = 0) -> dict[str, object]:
    at = f"sys/fs/cgroup/memory{where}"
    return {
        f"{at}/memory.limit_in_bytes": most,
        f"{at}/memory.usage_in_bytes": used,
        f"{at}/memory.stat": f"inactive_file 7\ntotal_inactive_file {inactive}",
    }


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
)
def test_what_the_groups_leave(tmp_path, files, left):
    assert memory.container_bytes(written(tmp_path, files)) == left


def test_the_check_takes_the_least_of_machine_and_container(monkeypatch, tiny):
    monkeypatch.setattr(memory, "container_bytes", lambda: [5 * GIB, 3000])
    assert memory.free_bytes(torch.device("cpu")) == 3000
    with pytest.raises(OutOfMemory, match="choose a length of at most 5 tokens"):  # 512 bytes a token, 0.9 of 3000
        memory.require_room(tiny(), 64)
    monkeypatch.setattr(memory, "container_bytes", lambda: [])
    assert memory.free_bytes(torch.device("cpu")) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_the_references_keys_that_a_diagnosis_keeps_are_counted(monkeypatch, tiny):
    """Weights or linear inputs quantized: K of the reference, half a K/V cache, stands beside the quantized pass's."""
    loaded, text = tiny(), [Document("a", "".join(chr(97 + i * i % 26) for i in range(300)))]
    spec = DiagnosisSpec(length=128, short_length=32, windows=2, paired_tokens=16, eps=0.05)
    begun = []

    def asked(quant, free):
        monkeypatch.setattr(memory, "free_bytes", lambda device: free / memory.HEADROOM)
        diagnose.run(loaded, Setting(RopeSpec("yarn", 2.0), quant, diagnosis=spec), text, on_step=begun.append)

    cache = 128 * 512  # 512 bytes a token: 2 layers, 2 KV heads, 16 channels, K and V, float32
    asked(QuantSpec(k=QuantizerSpec(4)), cache + 1)
    begun.clear()
    through = QuantSpec(activations=QuantizerSpec(8))
    with pytest.raises(OutOfMemory, match=r"of the reference's K, kept to compare.*at most 85 tokens"):
        asked(through, cache + 1)
    assert begun == []  # refused before the first pass, not between the two
    asked(through, 1.5 * cache + 1)
    copy = 4 * loaded.geometry.parameters
    weights = QuantSpec(weights=WeightQuantSpec(8))
    with pytest.raises(OutOfMemory, match="at most 127 tokens"):
        asked(weights, 1.5 * cache - 1 + copy)
    asked(weights, 1.5 * cache + 1 + copy)


def test_the_kept_keys_are_as_large_as_counted(monkeypatch, tiny):
    """Counted from what the pass really keeps, not from a formula."""
    from qroar_core.diagnostics.quantized_pass import QuantizedPass

    sizes, made = [], QuantizedPass.__post_init__

    def noticed(self):
        sizes.append(sum(k.numel() * k.element_size() for k in self.reference.k.values()))
        made(self)

    monkeypatch.setattr(QuantizedPass, "__post_init__", noticed)
    loaded, text = tiny(), [Document("a", "".join(chr(97 + i * i % 26) for i in range(300)))]
    spec = DiagnosisSpec(length=128, short_length=32, windows=2, paired_tokens=16, eps=0.05)
    diagnose.run(loaded, Setting(RopeSpec("yarn", 2.0), QuantSpec(activations=QuantizerSpec(8)), diagnosis=spec), text)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3 * 10**8)
    with_keys, without = memory.length_that_fits(loaded, keys_kept=True), memory.length_that_fits(loaded)
    room = 3 * 10**8 * memory.HEADROOM
    assert room / with_keys - room / without == pytest.approx(sizes[0] / 128, rel=1e-4)


def test_what_torch_keeps_for_its_next_tensors_is_free(monkeypatch):
    """Or the second of two passes would be refused the cache that the first one had."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert memory.free_bytes(torch.device("cuda")) == 1500
