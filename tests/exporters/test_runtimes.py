"""Exported folders read by the runtimes that people serve with, each in one process of its own for all cases.

The oracle is the runtime's own code (transformers 4.57, mlx-lm on a CPU), on float32 weights: what it computes of a
folder is what transformers 5 computes of the source model under the same interpolation and transform.
"""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
import transformers

from qroar_core.exporters import hf, verify, w4a16
from qroar_core.exporters.exported import of_folder
from qroar_core.exporters.folder import NOTE, write_note
from qroar_core.exporters.readers import readers
from qroar_core.interpolations.tie import Tie
from qroar_core.models.load import run as load_model
from qroar_core.models.runtimes.run import Job, ask
from qroar_core.models.stream import Condition
from qroar_core.models.text import encode, split
from qroar_core.models.window_losses import measure
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.models.hub_configs import HUB
from tests.models.hub_folders import random_model

pytestmark = pytest.mark.slow

TOKENS, FIRST = 288, 258  # past the demo's native window of 256, where an interpolation matters
TEXT = "In 1837, the nation's"
LONG = tuple(1 + 3 * i / 31 for i in range(32))
LISTS = RopeSpec("longrope", 4.0, long_factor=LONG, short_factor=(1.0,) * 32)
YARN = RopeSpec("yarn", 4.0)
ROPES = {
    "yarn": YARN,
    "linear": RopeSpec("linear", 2.0),
    "ntk": RopeSpec("ntk", 4.0),
    "llama3": RopeSpec("llama3", 4.0),
    "longrope": LISTS,
    "dynamic": RopeSpec("dynamic", 4.0),
    "ties": RopeSpec("yarn", 4.0, tie=(Tie(20, 23), Tie(24, 31, 0.0))),
    "attention factor": RopeSpec("yarn", 4.0, attention_factor=1.3),
}
HUBS = {  # of several RoPEs, of other names, of a part of the channels, with LongRoPE of its own
    "Gemma3-text4b": RopeSpec("yarn", 2.0),
    "Granite4-dense": RopeSpec("linear", 2.0),
    "DSV2-Lite": RopeSpec(),
    "Llama3.2": RopeSpec(),
    "Phi3-128k": RopeSpec(),
    "Pythia": RopeSpec("linear", 2.0),
    "StableLM2": RopeSpec("yarn", 2.0),
}
SAID = {"transformers4": {"DSV2-Lite"}, "mlx": {"Phi3-128k", "StableLM2"}}  # read otherwise, as their limits say
# mlx-lm reads no W4A16; the others are left to `python -m benchmarks runtimes.hub.mlx`, a second each
LEFT_OUT = {
    "mlx": {"Pythia", "w4a16", "ntk", "dynamic", "attention factor", "Llama3.2", "Granite4-dense", "DSV2-Lite"},
}


def angled(loaded):
    """Random scales and angles, both per layer and KV head, one-sided: a reader that lost them would be far off."""
    geo, generator = loaded.geometry, torch.Generator().manual_seed(3)
    g = (torch.rand(geo.n_layers, geo.n_kv_heads, 2, generator=generator, dtype=torch.float64) - 0.5).exp2()
    angles = torch.rand(geo.n_layers, geo.n_kv_heads, geo.n_pairs, generator=generator, dtype=torch.float64) * math.tau
    return Scales("shared", "kv_head", ((0, 9), (10, 31)), g, angles)


@pytest.fixture(scope="module")
def cases(demo, byte_tokenizer, tmp_path_factory):
    """Name -> (folder, ids, ln p that the source gives)."""
    top = tmp_path_factory.mktemp("exports")
    ids = encode(demo.tokenizer, split("heldout")[0])[:TOKENS].tolist()
    wanted = [(name, demo, rope, None, ids) for name, rope in ROPES.items()]
    wanted.append(("angles", demo, YARN, angled(demo), ids))
    for name, rope in HUBS.items():
        folder = top / f"source {name}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(HUB[name]))
        random_model(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
        byte_tokenizer.save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(HUB[name]))
        loaded = load_model(str(folder), device="cpu", dtype="float32")
        wanted.append((name, loaded, rope, None, list(range(1, 251)) + list(range(1, 39))))
    made = {}
    for name, loaded, rope, scales, tokens in wanted:
        folder = hf.run(loaded, rope, scales, top / name)
        nll = measure(loaded, Condition(rope, scales=scales), torch.tensor([tokens]), TOKENS - FIRST).nll[0]
        made[name] = folder, tokens, -nll.double()
    packed = w4a16.run(demo, YARN, angled(demo), top / "w4a16", group_size=64)
    nll = measure(load_model(str(packed), device="cpu"), Condition(RopeSpec()), torch.tensor([ids]), TOKENS - FIRST).nll
    made["w4a16"] = packed, ids, -nll[0].double()
    return made


@pytest.mark.parametrize(("name", "bound"), [("transformers4", 1e-4), ("mlx", 1e-3)])
def test_a_runtime_reads_every_folder_as_transformers_5_does(name, bound, cases, runtime, demo):
    cases = {case: it for case, it in cases.items() if case not in LEFT_OUT.get(name, ())}
    old = as_before(cases["yarn"][0], cases["yarn"][0].with_name(f"as before, for {name}"))
    jobs = [Job(str(folder), ids, FIRST, TEXT) for folder, ids, _ in cases.values()]
    jobs.append(Job(str(old), cases["yarn"][1], FIRST, TEXT))
    _, (*answers, before) = ask(readers()[name].worker, jobs, runtime(name))
    assert [answer.error for answer in answers if answer.error] == []
    far = {case: apart(answer, it[2]) for (case, it), answer in zip(cases.items(), answers, strict=True)}
    otherwise = {case for case, distance in far.items() if not distance < bound}
    assert otherwise == SAID[name]
    for case in otherwise:
        assert readers()[name].limits_of(of_folder(cases[case][0], "hf")) != []
    wanted = demo.tokenizer(TEXT)["input_ids"]
    assert all(answer.tokens == wanted for case, answer in zip(cases, answers, strict=True) if case not in HUBS)
    assert apart(before, cases["yarn"][2]) > 100 * bound


def test_verify_fails_where_the_named_runtime_reads_another_model(cases, runtime):
    """A folder without the older keys is right for transformers 5 and all checks but that of these keys."""
    runtime("transformers4")
    old = as_before(cases["yarn"][0], cases["yarn"][0].with_name("as before, verified"))
    note = json.loads((old / NOTE).read_text())
    note.pop("files")
    write_note(old, note)
    *others, asked = verify.run(old, runtime="transformers4")
    failed = {check.question: check.answer for check in others if check.passed is not True}
    assert failed.pop("names that transformers 4 and mlx-lm read") == "config.json lacks rope_scaling"
    (said,) = failed.values()  # config.json against what an export writes
    assert {part.split(".")[0] for part in said.split("; ")} == {"rope_scaling"}
    assert asked.question == "log-probabilities in transformers 4.57.3"
    assert asked.passed is False


def as_before(folder, copy):
    """The folder as exports once were, with `rope_parameters` alone."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    del config["rope_scaling"]
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def apart(answer, wanted):
    """The largest |d ln p| in nats."""
    return float((torch.tensor(answer.values).double() - wanted).abs().max())
