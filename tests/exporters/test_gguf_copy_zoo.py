"""Scales put into files of every architecture that takes them in place, held against the loaded model's own scaling.

Oracle: the loaded source with the same scales (models.patch), which knows nothing of how a GGUF lays out its rows.
"""

from __future__ import annotations

import pytest
import torch

from qroar_core.errors import UnsupportedModel
from qroar_core.exporters import gguf_copy
from qroar_core.models.formats.gguf.architectures import ARCHITECTURES
from qroar_core.models.load import run as load_model
from qroar_core.models.patch import scaled_parameters
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales
from tests.models.gguf_zoo import KINDS, write

IN_PLACE = ("llama", "llama, biases", "mistral", "qwen2", "granite", "smollm3")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_copy_is_the_loaded_model_with_its_scales(tmp_path, name):
    source = tmp_path / "m.gguf"
    write(name, source, kind="F32")
    loaded = load_model(str(source), device="cpu", dtype="float32")
    geo = loaded.geometry
    half = geo.rotary_dim // 2
    drawn = torch.rand(geo.n_layers, geo.n_kv_heads, 2, generator=torch.Generator().manual_seed(1))
    g = (drawn.double() * 2 - 1).exp2()
    scales = Scales("symmetric", "kv_head", ((0, 3), (4, half - 1)), g)
    file = to_file(loaded, RopeSpec(), QuantSpec(), scales)
    (tmp_path / "s.json").write_text(file.to_json())
    out = gguf_copy.run(source, tmp_path / "s.json", None, tmp_path / "out")
    copy = load_model(str(out / "m.gguf"), device="cpu", dtype="float32").model.state_dict()
    wanted = loaded.model.state_dict() | scaled_parameters(loaded, scales)
    changed = {key for key, value in loaded.model.state_dict().items() if not torch.equal(value, copy[key])}
    turning = geo.n_layers - len(geo.without_rope)
    assert len({key for key in changed if key.endswith("weight")}) == 2 * turning
    for key, value in wanted.items():
        torch.testing.assert_close(copy[key], value, rtol=2e-7, atol=0, msg=key)


@pytest.mark.parametrize("name", [n for n, kind in KINDS.items() if "," not in n and n not in IN_PLACE])
def test_the_others_are_refused_with_their_reason(tmp_path, name):
    source = tmp_path / "m.gguf"
    write(name, source)
    reason = ARCHITECTURES[KINDS[name].architecture].no_scales or "a file with experts"
    with pytest.raises(UnsupportedModel, match="takes no scales in place: ") as error:
        gguf_copy.run(source, None, RopeSpec("linear", 2.0), tmp_path / "out")
    assert reason in str(error.value)
