"""Take a right file of each architecture, change one thing, and it is refused in one line or is the same model.

One tensor of each name is removed, and added, renamed or reshaped, which take turns; every key is removed and set to
another value, and made another kind or joined by an unknown one, which take turns. Where a key may be missing,
llama.cpp's own constant stands in for it: those constants are written out here.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
from gguf import GGUFValueType

from qroar_core.errors import QRoarError
from qroar_core.models.formats.gguf import opened
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.header_entries import entry, header_bytes, padded
from qroar_core.models.formats.gguf.opened import open_gguf
from tests.models.gguf_zoo import KINDS, write

NAMES = [name for name in KINDS if name not in ("stablelm, parallel, norms of heads", "deepseek2, lite, one kv_b")]
QUICK = ("llama", "mixtral", "gemma3")
CASES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
SAME = {  # a key under which the config stays what it is whatever it says, and why
    "vocab_size": "the rows of token_embd say it",
    "tensor_data_layout": "a name",
    "use_parallel_residual": "StableLM: the norm of the MLP says it, in llama.cpp too",
    "expert_group_used_count": "one group is all groups",
}
CONSTANT = {  # llama.cpp's, where a key is missing: src/llama-model.cpp, load_hparams
    "rope.freq_base": 10_000.0,
    "rope.freq_base_swa": 10_000.0,
    "rope.dimension_count": "all channels",
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "attention.sliding_window": "4096 in Gemma 2, none in Phi-3",
    "expert_gating_func": "softmax",
    "expert_weights_norm": False,
    "expert_group_count": "no groups",
    "expert_group_used_count": "all groups",
    "expert_feed_forward_length": "refused by the shapes unless it is the same",
    "rope.scaling.original_context_length": "context_length",
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
    "rope.scaling.type": "linear",
    "rope.scaling.factor": 1.0,
    "rope.scaling.attn_factor": 1.0,
    "use_parallel_residual": "StableLM: the norm of the MLP says it, in llama.cpp too",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Path of a kind's file, written once."""
    folder, paths = tmp_path_factory.mktemp("zoo"), {}

    def path(name):
        if name not in paths:
            paths[name] = folder / f"{len(paths)}.gguf"
            write(name, paths[name])
        return paths[name]

    return path


@pytest.fixture(autouse=True)
def laid_out_once(monkeypatch):
    """The model of one config is laid out once: most of the files here say the same sizes again."""
    lay_out, known = opened.parameter_shapes, {}

    def shapes(config, where):
        key = json.dumps(config, sort_keys=True)
        if key not in known:
            known[key] = lay_out(config, where)
        return known[key]

    monkeypatch.setattr(opened, "parameter_shapes", shapes)


def rewritten(source, target, header, entries=None, tensors=None):
    """A copy of a file with other keys or other tensors; those of a name that the file has keep their bytes."""
    infos, parts, at = [], [], 0
    with source.open("rb") as file:
        for info, origin in tensors if tensors is not None else [(t, t) for t in header.tensors.values()]:
            file.seek(header.data_start + origin.offset)
            raw = file.read(info.nbytes)
            raw += bytes(info.nbytes - len(raw))
            infos.append(dataclasses.replace(info, offset=at))
            parts.append(raw + bytes(padded(len(raw), header.alignment) - len(raw)))
            at = padded(at + info.nbytes, header.alignment)
    keys = header.entries.values() if entries is None else entries
    target.write_bytes(header_bytes(keys, infos, header.alignment) + b"".join(parts))
    return target


def outcome(path):
    """What became of a file: the line that refuses it, or the config."""
    try:
        return open_gguf(path).config
    except QRoarError as error:
        said = str(error)
    assert "\n" not in said
    assert str(path) in said
    return said


def stems(header):
    """One tensor of each name; layers are looked at only once."""
    found = {}
    for name, info in header.tensors.items():
        found.setdefault(name.split(".", 2)[-1] if name.startswith("blk.") else name, info)
    return list(found.values())


@pytest.mark.parametrize("name", CASES)
def test_no_tensor_may_be_removed_renamed_reshaped_or_added(written, tmp_path, name):
    source = written(name)
    header, target = read_header(source), tmp_path / "x.gguf"
    whole = list(header.tensors.values())
    right = outcome(source)
    assert isinstance(right, dict)
    for turn, info in enumerate(stems(header)):
        others = [(t, t) for t in whole if t is not info]
        said = outcome(rewritten(source, target, header, tensors=others))
        if info.name == "output.weight" and isinstance(said, dict):
            assert said == right | {"tie_word_embeddings": True}  # llama.cpp: the embedding serves as the head
        else:
            assert isinstance(said, str), f"without {info.name}"
        stem, _, leaf = info.name.rpartition(".")
        kept, change = (
            (others, {"name": f"{stem}_x.{leaf}"}),
            (others, {"shape": (*info.shape[:-1], info.shape[-1] + 32)}),
            ([(t, t) for t in whole], {"name": f"{stem}.x.{leaf}"}),
        )[turn % 3]
        changed = dataclasses.replace(info, **change)
        said = outcome(rewritten(source, target, header, tensors=[*kept, (changed, info)]))
        assert isinstance(said, str), f"{info.name}: {change} beside {len(kept)}"


def other(key):
    """The key with another value of its kind; None where it is a list."""
    value = key.value
    kind = GGUFValueType.STRING if isinstance(value, str) else None
    if isinstance(value, bool):
        return entry(key.key, GGUFValueType.BOOL, not value)
    if kind is not None:
        return entry(key.key, kind, f"{value}x")
    if isinstance(value, int):
        return entry(key.key, GGUFValueType.UINT32, value * 2 + 1)
    if isinstance(value, float):
        return entry(key.key, GGUFValueType.FLOAT32, value * 1.5 + 0.125)
    return entry(key.key, GGUFValueType.UINT32, [x + 1 for x in value])


@pytest.mark.parametrize("name", CASES)
def test_every_key_is_required_understood_or_known_to_be_harmless(written, tmp_path, name):
    source = written(name)
    header, target = read_header(source), tmp_path / "x.gguf"
    right = outcome(source)
    prefix = f"{header.get('general.architecture')}."
    for turn, key in enumerate(k for k in header.entries.values() if k.key.startswith(prefix)):
        short = key.key.removeprefix(prefix)
        rest = [k for k in header.entries.values() if k is not key]
        said = outcome(rewritten(source, target, header, entries=rest))
        if isinstance(said, dict) and said != right:
            assert short in CONSTANT, f"{short} removed"
        said = outcome(rewritten(source, target, header, entries=[*rest, other(key)]))
        if isinstance(said, dict) and said == right:
            assert short in SAME, f"{short} set to {other(key).value}"
        if turn % 2:
            unknown = entry(f"{key.key}_x", GGUFValueType.FLOAT32, 1.0)
            said = outcome(rewritten(source, target, header, entries=[*header.entries.values(), unknown]))
            assert isinstance(said, str), f"{short}_x added"
            assert f"{key.key}_x" in said
            continue
        wrong = (
            entry(key.key, GGUFValueType.STRING, "wrong")
            if not isinstance(key.value, str)
            else entry(key.key, GGUFValueType.UINT32, 7)
        )
        said = outcome(rewritten(source, target, header, entries=[*rest, wrong]))
        assert isinstance(said, str) or short in SAME, f"{short} of another kind"
