"""An exported folder is an ordinary checkpoint: plain transformers, same logits as the patched model."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from qroar_core.errors import BadOutput, BadSpec, Cancelled
from qroar_core.exporters import hf
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.window_losses import last_hidden
from qroar_core.setting import default_setting
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

pytestmark = pytest.mark.slow

BANDS = ((0, 3), (4, 7))
LONGROPE = RopeSpec("longrope", 2.0, long_factor=tuple(1 + 0.1 * i for i in range(8)), short_factor=(1.0,) * 8)


def random_scales(mode="symmetric"):
    generator = torch.Generator().manual_seed(3)
    g = (torch.rand(2, 2, 2, generator=generator, dtype=torch.float64) * 2 - 1).exp2()
    return Scales(mode, "kv_head", BANDS, g)


def logits_under(loaded, condition, ids):
    """Every position's logits but the last, through the stream."""
    with open_stream(loaded, condition, ids.shape[1]) as stream:
        return logits_of(loaded, last_hidden(stream.run(ids), ids.shape[1], ids.shape[1] - 1)[0])


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_reloaded_logits_equal_the_patched_models(tiny, ids, tmp_path, family, mode):
    from transformers import AutoModelForCausalLM

    loaded, tokens = tiny(family), ids(1, 40)
    scales = random_scales(mode)
    patched = logits_under(loaded, Condition(RopeSpec("yarn", 2.0), scales=scales), tokens)
    folder = hf.run(loaded, RopeSpec("yarn", 2.0), scales, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        plain = again(tokens).logits[0, :-1]
    torch.testing.assert_close(plain, patched, rtol=0, atol=2e-5)
    bare = logits_under(loaded, Condition(RopeSpec("yarn", 2.0)), tokens)
    moved = float((bare - plain).abs().max())
    assert moved > 1e-2 if mode == "shared" else moved < 1e-4  # shared is a temperature, symmetric is not


@pytest.mark.parametrize(
    "rope",
    [
        RopeSpec(),
        RopeSpec("linear", 2.0),
        RopeSpec("ntk", 2.0),
        RopeSpec("dynamic", 2.0),
        RopeSpec("yarn", 4.0),
        RopeSpec("llama3", 2.0),
        LONGROPE,
    ],
    ids=lambda r: r.method,
)
def test_the_interpolation_is_in_the_config(tiny, ids, tmp_path, rope):
    """Past the native window (64), so that length-dependent methods have switched over."""
    from transformers import AutoModelForCausalLM

    loaded, tokens = tiny(), ids(1, 96)
    folder = hf.run(loaded, rope, None, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        plain = again(tokens).logits[0, :-1]
    torch.testing.assert_close(plain, logits_under(loaded, Condition(rope), tokens), rtol=0, atol=2e-5)
    if rope.method != "default":
        bare = logits_under(loaded, Condition(), tokens)
        assert float((bare - plain).abs().max()) > 1e-3


def test_who_asks_while_the_files_are_written_sees_the_models_own_config(tiny, tmp_path, monkeypatch):
    """Pages take the setting, and with it the keys of their results, from the config of the model in memory."""
    loaded = tiny()
    before, seen = default_setting(loaded), []
    write = type(loaded.model).save_pretrained

    def watched(model, *args, **kwargs):
        seen.append(default_setting(loaded))
        write(model, *args, **kwargs)
        seen.append(default_setting(loaded))

    monkeypatch.setattr(type(loaded.model), "save_pretrained", watched)
    hf.run(loaded, RopeSpec("yarn", 2.0), None, tmp_path / "out")
    assert seen == [before, before]


def test_export_leaves_the_model_and_its_config_as_they_were(tiny, tmp_path):
    loaded = tiny()
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    config = loaded.model.config.to_dict()
    hf.run(loaded, RopeSpec("yarn", 2.0), random_scales(), tmp_path / "out")
    assert loaded.model.config.to_dict() == config
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_applied_scales_are_not_written_twice(tiny, ids, tmp_path):
    """Exporting scales S while S is applied writes S once, not S squared."""
    from transformers import AutoModelForCausalLM

    loaded, scales = tiny(), random_scales("shared")
    clean = hf.run(loaded, RopeSpec(), scales, tmp_path / "clean")
    apply_scales(loaded, scales)
    applied = hf.run(loaded, RopeSpec(), scales, tmp_path / "applied")
    undo_scales(loaded)
    a, b = (AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32).state_dict() for f in (clean, applied))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_tokenizer_and_manifest_travel(tiny, tmp_path):
    import json

    from transformers import AutoTokenizer

    loaded = tiny()
    folder = hf.run(loaded, RopeSpec("linear", 2.0), random_scales(), tmp_path / "out")
    text = "The same ids as before."
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == loaded.tokenizer(text)["input_ids"]
    note = json.loads((folder / "qroar.json").read_text())
    assert note["from"]["fingerprint"] == loaded.fingerprint
    assert note["changed"] == ["q_proj", "k_proj"]


def test_the_model_card_says_what_was_changed(tiny, tmp_path):
    loaded, scales = tiny(), random_scales()
    folder = hf.run(loaded, RopeSpec("yarn", 2.0), scales, tmp_path / "out", command="python -m qroar_core export x")
    card = (folder / "README.md").read_text()
    assert card.startswith("# tiny-llama\n\n## What was changed\n")
    low, high = float(scales.g.min()), float(scales.g.max())
    assert f"2 bands, per layer and KV head), {low:.3g} to {high:.3g}, multiplied into k_proj, q_proj." in card
    assert "W_Q times g, W_K over g: in full precision no logit changes" in card
    assert "RoPE: yarn x2, written into `rope_parameters`" in card
    assert "Repeat it:\n\n    python -m qroar_core export x\n\n## How to serve it\n" in card
    files = json.loads((folder / "qroar.json").read_text())["files"]
    assert files["README.md"]["sha256"] == hashlib.sha256(card.encode()).hexdigest()
    bare = (hf.run(loaded, RopeSpec(), None, tmp_path / "bare") / "README.md").read_text()
    assert "- Scales: none.\n- RoPE: as in the source.\n" in bare
    assert "Repeat it" not in bare


def test_the_sources_own_card_comes_first(tiny, tmp_path):
    loaded = tiny()
    loaded.template = tmp_path / "source"
    loaded.template.mkdir()
    (loaded.template / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Mine\n\n")
    card = (hf.run(loaded, RopeSpec(), random_scales("shared"), tmp_path / "out") / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n---\n# Mine\n\n## What was changed\n")
    assert "W_Q and W_K times g, which multiplies" in card


def test_a_large_model_comes_in_shards_that_transformers_joins(tiny, ids, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    assert hf.SHARD == "5GB"
    monkeypatch.setattr(hf, "SHARD", "40KB")
    loaded, tokens, scales = tiny(), ids(1, 40), random_scales("shared")
    folder = hf.run(loaded, RopeSpec(), scales, tmp_path / "out")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 3
    places = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(places.values()) == {path.name for path in shards}
    assert {path.name for path in shards} < set(json.loads((folder / "qroar.json").read_text())["files"])
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        plain = again(tokens).logits[0, :-1]
    torch.testing.assert_close(plain, logits_under(loaded, Condition(scales=scales), tokens), rtol=0, atol=2e-5)


def test_an_existing_folder_is_left_alone(tiny, tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "keep.txt").write_text("precious")
    with pytest.raises(BadOutput, match="already exists; choose a new folder"):
        hf.run(tiny(), RopeSpec(), None, target)
    assert [p.name for p in target.iterdir()] == ["keep.txt"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tiny, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(BadOutput, match="the disk has 0 MiB left; free some room") as caught:
        hf.run(tiny(), RopeSpec(), None, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_writing_leaves_nothing(tiny, tmp_path, monkeypatch):
    loaded = tiny()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(BadOutput, match="No space left on device"):
        hf.run(loaded, RopeSpec(), random_scales(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_cancel_between_steps_leaves_nothing(tiny, tmp_path):
    def cancel(step):
        if step.done == 2:
            raise Cancelled("export")

    with pytest.raises(Cancelled):
        hf.run(tiny(), RopeSpec(), random_scales(), tmp_path / "out", on_step=cancel)
    assert list(tmp_path.iterdir()) == []


def test_unknown_format_names_the_known(tiny, tmp_path):
    with pytest.raises(BadSpec, match="unknown format 'onnx'; choose one of hf"):
        hf.run(tiny(), RopeSpec(), None, tmp_path / "out", format="onnx")


KILLED = """
import sys, time
from qroar_core.exporters import hf
from qroar_core.models import load
from qroar_core.specs import RopeSpec

def stop(step):
    if step.done == {at}:
        print("here", flush=True)
        time.sleep(60)

hf.run(load.run("demo", device="cpu"), RopeSpec(), None, sys.argv[1], on_step=stop)
"""


def killed(target, at):
    """A real process that exports to `target` and dies by kill -9 before step `at`."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(at=at), str(target)],
        stdout=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        text=True,
    )
    try:
        assert process.stdout.readline() == "here\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_what_a_killed_export_left_is_swept_by_the_next_one(tiny, tmp_path):
    target = tmp_path / "out"
    killed(target, at=2)  # the weights are written by then
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out-")
    assert (left / "out" / "model.safetensors").stat().st_size > 1_000_000
    other = tmp_path / "out-2"
    hf.run(tiny(), RopeSpec(), None, other)
    assert left.is_dir()  # another target's is not touched
    hf.run(tiny(), RopeSpec(), None, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out-2"]
    assert not (target / "qroar-export.json").exists()


def scrap(folder, name, mark=None, age=0.0):
    left = folder / name
    left.mkdir()
    (left / "model.safetensors").write_text("x")
    if mark is not None:
        (left / "qroar-export.json").write_text(mark if isinstance(mark, str) else json.dumps(mark))
        os.utime(left / "qroar-export.json", (time.time() - age,) * 2)
    return left


def test_only_our_own_dead_scratch_folders_are_swept(tiny, tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    here, day = socket.gethostname(), 24 * 3600
    kept = [
        scrap(tmp_path, ".out-backup"),
        scrap(tmp_path, ".out-alive", {"target": "out", "pid": os.getpid(), "host": here}),
        scrap(tmp_path, ".out-far", {"target": "out", "pid": dead.pid, "host": "elsewhere"}),
        scrap(tmp_path, ".out-2-x", {"target": "out-2", "pid": dead.pid, "host": here}),
        scrap(tmp_path, ".out-torn", "{"),
        scrap(tmp_path, ".other-x", {"target": "out", "pid": dead.pid, "host": here}),
    ]
    gone = [
        scrap(tmp_path, ".out-dead", {"target": "out", "pid": dead.pid, "host": here}),
        scrap(tmp_path, ".out-old", {"target": "out", "pid": dead.pid, "host": "elsewhere"}, age=day + 60),
    ]
    hf.run(tiny(), RopeSpec(), None, tmp_path / "out")
    assert all(folder.is_dir() for folder in kept)
    assert not any(folder.exists() for folder in gone)
