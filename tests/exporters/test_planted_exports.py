"""`verify` on right exports of every format, all of which pass, and on wrong ones with fresh hashes: none does.

A wrong export is one whose note says another thing than its files hold: angles that were lost, another interpolation, a
number that no rounding explains. llama.cpp answers where it is installed; nothing here depends on it.
"""

from __future__ import annotations

import json
import math
import shutil
from functools import cache

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qroar_core.exporters import gguf_copy, gguf_write, hf, quantized_copy, verify, verify_gguf, w4a16
from qroar_core.exporters.folder import NOTE, write_note
from qroar_core.interpolations.tie import Tie
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales
from tests.models.hub_folders import random_model

pytestmark = pytest.mark.slow

YARN, LINEAR = RopeSpec("yarn", 4.0), RopeSpec("linear", 2.0)
LIST = tuple(1 + i / 8 for i in range(16))
LISTS = RopeSpec("longrope", 4.0, long_factor=LIST, short_factor=(1.0,) * 16)
TIED = RopeSpec("yarn", 4.0, tie=(Tie(8, 11), Tie(12, 15, 0.0)))


def scales_of(loaded, kind):
    """`bands`: one-sided scales, which change the logits; `symmetric`: scales that do not; `angles`: with angles."""
    geo, generator = loaded.geometry, torch.Generator().manual_seed(3)
    g = (torch.rand(geo.n_layers, geo.n_kv_heads, 2, generator=generator, dtype=torch.float64) * 2 - 1).exp2()
    turned = torch.rand(geo.n_layers, geo.n_kv_heads, geo.n_pairs, generator=generator, dtype=torch.float64) * math.tau
    mode = "shared" if kind == "bands" else "symmetric"
    return Scales(mode, "kv_head", ((0, 5), (6, 15)), g, turned if kind == "angles" else None)


class Exports:
    """Exports of a small model, made when they are asked for."""

    def __init__(self, top):
        self.top = top
        config = transformers.LlamaConfig(
            vocab_size=2048,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=128,  # longer than the text that is scored
            attention_bias=True,
            bos_token_id=0,
            eos_token_id=0,
        )
        random_model(config).float().save_pretrained(top / "source")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(DEMO / name, top / "source" / name)
        self.loaded = load_model(str(top / "source"), device="cpu")
        self.made = cache(self._made)

    def _made(self, form, rope, scaled):
        """`scaled`: a kind of `scales_of`, or ""."""
        scales = scales_of(self.loaded, scaled) if scaled else None
        folder = self.top / f"{len(list(self.top.iterdir()))} {form}"
        if form == "hf":
            return hf.run(self.loaded, rope, scales, folder)
        if form == "w4a16":
            return w4a16.run(self.loaded, rope, scales, folder, group_size=32)
        if form == "quantized":
            packed = load_model(str(self.made("w4a16", RopeSpec(), "")), device="cpu")
            return quantized_copy.run(packed, rope, scales, folder)
        if form != "gguf":
            return gguf_write.run(self.loaded, rope, scales, folder, format=form)
        source = next(self.made("gguf-q8_0", RopeSpec(), "").glob("*.gguf"))
        model = gguf_copy.understood(source, gguf_copy.read_header(source))
        described = gguf_copy._Described("m", min(model.fingerprints()), model.geometry)
        content = to_file(described, rope, QuantSpec(), scales)
        (self.top / "scales.json").write_text(content.to_json())
        return gguf_copy.run(source, self.top / "scales.json", None, folder)

    def spoilt(self, form, rope, scaled, spoil):
        """A copy of an export after `spoil(folder, exports)`, with hashes of what then lies there."""
        folder = self.top / f"{len(list(self.top.iterdir()))} spoilt"
        shutil.copytree(self.made(form, rope, scaled), folder)
        spoil(folder, self)
        note = json.loads((folder / NOTE).read_text())
        note.pop("files")
        write_note(folder, note)
        return folder


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    top = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QROAR_CACHE", str(top / "cache"))
        yield Exports(top)


RIGHT = [
    ("hf", YARN, "angles"),
    ("hf", LINEAR, "symmetric"),
    ("hf", LISTS, ""),
    ("hf", TIED, "angles"),
    ("w4a16", YARN, "angles"),
    ("w4a16", RopeSpec("llama3", 4.0), "symmetric"),
    ("gguf-f16", YARN, "angles"),
    ("gguf-bf16", LINEAR, "angles"),
    ("gguf-q8_0", YARN, "angles"),
    ("gguf-q8_0", TIED, ""),
    ("gguf-q4_0", RopeSpec("ntk", 4.0), "angles"),
    ("quantized", YARN, "symmetric"),
    ("gguf", YARN, "symmetric"),
]


@pytest.mark.parametrize(("form", "rope", "scaled"), RIGHT, ids=lambda it: getattr(it, "method", it))
def test_a_right_export_passes(exports, form, rope, scaled):
    found = verify.run(exports.made(form, rope, scaled))
    assert [check for check in found if check.passed is False] == []
    assert len([check for check in found if check.passed]) >= 5


def files_of(form, rope, scaled):
    """The weights and the config of another export in place of these: its note is not theirs."""

    def spoil(folder, exports):
        for path in exports.made(form, rope, scaled).iterdir():
            if path.suffix in (".gguf", ".safetensors") or path.name == "config.json":
                shutil.copyfile(path, folder / path.name)

    return spoil


def tensor(name, change):
    """One tensor of model.safetensors changed in place."""

    def spoil(folder, _):
        content = load_file(folder / "model.safetensors")
        change(content[name])
        save_file(content, folder / "model.safetensors", {"format": "pt"})

    return spoil


def config(**entries):
    def spoil(folder, _):
        said = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(said | entries))

    return spoil


def without(*names):
    def spoil(folder, _):
        path = folder / "config.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in content.items() if name not in names}))

    return spoil


def longer(folder, _):
    """Another long list, which no text within the native window is read with, under both names."""
    said = json.loads((folder / "config.json").read_text())
    for part in ("rope_parameters", "rope_scaling"):
        said[part]["long_factor"] = [2 * x for x in said[part]["long_factor"]]
    (folder / "config.json").write_text(json.dumps(said))


def block(name, change):
    """The bytes of one tensor of the GGUF file changed in place."""

    def spoil(folder, _):
        (path,) = folder.glob("*.gguf")
        found = next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
        content = np.frombuffer(path.read_bytes(), np.uint8).copy()
        at = int(found.data_offset)
        change(content[at : at + int(found.n_bytes)])
        path.write_bytes(content.tobytes())

    return spoil


def text(old, new):
    """One key of the GGUF file's metadata."""

    def spoil(folder, _):
        (path,) = folder.glob("*.gguf")
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))

    return spoil


def twice(part):
    """Block scales (float16) of the first block doubled."""
    part[:2] = (part[:2].view("<f2") * 2).view(np.uint8)


def flip(part):
    part[2] ^= 0x40


Q, K = "model.layers.1.self_attn.q_proj", "model.layers.0.self_attn.k_proj"
WRONG = {
    "hf, angles lost": ("hf", YARN, "angles", files_of("hf", YARN, "symmetric")),
    "hf, scales lost": ("hf", LINEAR, "symmetric", files_of("hf", LINEAR, "")),
    "hf, another interpolation": ("hf", YARN, "angles", files_of("hf", LINEAR, "angles")),
    "hf, one head's keys doubled": ("hf", LINEAR, "symmetric", tensor(f"{K}.weight", lambda w: w[:32].mul_(2))),
    "hf, the older keys say another factor": (
        *("hf", YARN, "angles"),
        config(rope_scaling={"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128}),
    ),
    "hf, the older keys are gone": ("hf", YARN, "angles", without("rope_theta", "rope_scaling")),
    "hf, LongRoPE past the window is another": ("hf", LISTS, "", longer),
    "hf, ties lost": ("hf", TIED, "angles", files_of("hf", YARN, "angles")),
    "w4a16, angles lost": ("w4a16", YARN, "angles", files_of("w4a16", YARN, "symmetric")),
    "w4a16, scales lost": (
        *("w4a16", RopeSpec("llama3", 4.0), "symmetric"),
        files_of("w4a16", RopeSpec("llama3", 4.0), ""),
    ),
    "w4a16, one head's steps doubled": (
        *("w4a16", RopeSpec("llama3", 4.0), "symmetric"),
        tensor(f"{Q}.weight_scale", lambda w: w[:32].mul_(2)),
    ),
    "F16, another interpolation": ("gguf-f16", YARN, "angles", files_of("gguf-f16", LINEAR, "angles")),
    "BF16, angles lost": ("gguf-bf16", LINEAR, "angles", files_of("gguf-bf16", LINEAR, "symmetric")),
    "Q8_0, a code changed": ("gguf-q8_0", YARN, "angles", block("blk.1.ffn_up.weight", flip)),
    "Q8_0, another interpolation": ("gguf-q8_0", YARN, "angles", files_of("gguf-q8_0", LINEAR, "angles")),
    "Q4_0, a step doubled": ("gguf-q4_0", RopeSpec("ntk", 4.0), "angles", block("blk.0.attn_k.weight", twice)),
    "Q4_0, angles lost": (
        *("gguf-q4_0", RopeSpec("ntk", 4.0), "angles"),
        files_of("gguf-q4_0", RopeSpec("ntk", 4.0), "symmetric"),
    ),
    "quantized, scales lost": ("quantized", YARN, "symmetric", files_of("quantized", YARN, "")),
    "copy, another interpolation": ("gguf", YARN, "symmetric", text(b"rope.scaling.type", b"rope.scaling.typo")),
    "copy, a code changed": ("gguf", YARN, "symmetric", block("blk.0.attn_q.weight", flip)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_export_fails(exports, case):
    *of, spoil = WRONG[case]
    found = verify.run(exports.spoilt(*of, spoil))
    assert [check for check in found if check.passed is False] != []
    assert all(check.passed for check in found if "as written" in check.question)


def beside(folder, _):
    """A shard that no index lists."""
    save_file({"model.norm.weight": torch.ones(64)}, folder / "model-00002-of-00002.safetensors", {"format": "pt"})


def rounded(folder, _):
    """The same weights in the format that vLLM would serve them in."""
    content = load_file(folder / "model.safetensors")
    save_file({name: x.bfloat16() for name, x in content.items()}, folder / "model.safetensors", {"format": "pt"})


def in_place_of(form, rope, scaled):
    """The GGUF file of another export under this one's name."""

    def spoil(folder, exports):
        (mine,), (other,) = (one.glob("*.gguf") for one in (folder, exports.made(form, rope, scaled)))
        shutil.copyfile(other, mine)

    return spoil


def wider(folder, _):
    """A norm's epsilon ten times as large, in a GGUF."""
    (path,) = folder.glob("*.gguf")
    reader = gguf.GGUFReader(path, "r+")
    reader.fields["llama.attention.layer_norm_rms_epsilon"].parts[-1][0] *= 10
    reader.data.flush()


CONFIG, TYPES = "config.json against what this export writes", "types of the tensors against qroar.json"
KEYS, OTHERS = "keys against what this export writes", "files that no index lists"
AGAIN, OLDER = "logits against the source model", "names that transformers 4 and mlx-lm read"
MADE = "context that it promises"
SETTINGS = {  # what no logits on a short text show, or only where they are very near; and the checks that fail
    "hf, a norm's epsilon": ("hf", YARN, "", config(rms_norm_eps=1e-5), {CONFIG}),
    "hf, a shorter window": ("hf", YARN, "", config(max_position_embeddings=128), {CONFIG, MADE}),
    "hf, another end of text": ("hf", YARN, "", config(eos_token_id=7), {CONFIG}),
    "hf, two number formats": ("hf", YARN, "", config(torch_dtype="bfloat16"), {CONFIG, OLDER}),
    "hf, other weights' format": ("hf", YARN, "", rounded, {TYPES}),
    "hf, a shard beside": ("hf", YARN, "", beside, {OTHERS}),
    "w4a16, a norm's epsilon": ("w4a16", YARN, "angles", config(rms_norm_eps=1e-5), {CONFIG}),
    "quantized, another end of text": ("quantized", YARN, "symmetric", config(eos_token_id=7), {CONFIG}),
    "F16, a Q4_0 file": ("gguf-f16", YARN, "angles", in_place_of("gguf-q4_0", YARN, "angles"), {TYPES, KEYS}),
    "Q4_0, an F16 file": ("gguf-q4_0", YARN, "angles", in_place_of("gguf-f16", YARN, "angles"), {TYPES, KEYS}),
    "BF16, a norm's epsilon": ("gguf-bf16", LINEAR, "angles", wider, {KEYS}),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_wrong_setting_is_named_though_logits_hardly_show_it(exports, case, monkeypatch):
    """Without llama.cpp, which is not everywhere."""
    monkeypatch.setattr(verify_gguf, "available", lambda: False)
    *of, spoil, wanted = SETTINGS[case]
    found = verify.run(exports.spoilt(*of, spoil))
    failed = {check.question for check in found if check.passed is False}
    assert wanted <= failed <= wanted | {AGAIN}
