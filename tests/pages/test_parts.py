"""What the pages share and needs no browser: the address line, paths, words, recipes."""

import json
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pages.jobs import export_job
from pages.state.choice import Choice, from_address, read_address, setting_of, to_address
from pages.state.paths import OutsideRoots, confined, model_source
from pages.views.export_choice import default_folder, offered
from pages.views.labels import quant_words, rope_words, seconds_words, whole_setting_words
from pages.views.status_bar import verdict_for
from qroar_core.__main__ import main
from qroar_core.quantizers.presets import preset_names, preset_quant
from qroar_core.setting import Setting, default_setting
from qroar_core.specs import BandSpec, DiagnosisSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales


@pytest.mark.parametrize("name", preset_names())
def test_an_address_gives_back_exactly_what_was_chosen(name):
    chosen = Choice(
        model="demo",
        length=512,
        bands=BandSpec(4, "log"),
        rope=RopeSpec("yarn", 4.0),
        quant=preset_quant(name),
        diagnosis=DiagnosisSpec(eps=1e-2, paired=False),
        search=SearchSpec(steps=3),
        evaluation=EvaluationSpec(lengths=(64, 128)),
    )
    address = to_address(chosen)
    assert from_address(address) == chosen
    assert sum(map(len, address.values())) < 1000


def test_defaults_leave_the_address_empty():
    assert to_address(Choice()) == {}
    assert from_address({}) == Choice()


@pytest.mark.parametrize(
    "bad",
    [
        {"rope": '{"method":"yarn","factor":0.5}'},
        {"rope": "not json"},
        {"quant": '{"k":{"bits":99}}'},
        {"search": '{"steps":"many"}'},
        {"length": "-1"},
        {"length": "1e99"},
        {"bands": '{"count":0}'},
        {"evaluation": '{"windows":1}'},
        {"search": "x" * 5000},
        {"unknown": "1"},
    ],
)
def test_a_bad_address_is_dropped_never_guessed(bad):
    assert from_address({"model": "demo"} | bad) == Choice(model="demo")


def test_an_address_says_what_of_it_could_not_be_read():
    bad = {"quant": '{"k":{"bits":99}}', "rope": '{"method":"yarm"}', "unknown": "1", "length": "512"}
    assert read_address(bad) == (Choice(length=512), ["rope", "quant"])
    assert read_address({"text": "/etc/passwd", "search": "x" * 5000})[1] == ["search", "text"]


def test_bands_and_length_are_one_choice_for_all_stages(demo_model):
    setting = setting_of(Choice(bands=BandSpec(4, "log"), length=512, search=SearchSpec(steps=7)), demo_model)
    assert (setting.search.bands, setting.diagnosis.bands) == (BandSpec(4, "log"), BandSpec(4, "log"))
    assert (setting.search.length, setting.diagnosis.length, setting.search.steps) == (512, 512, 7)
    assert setting_of(Choice(), demo_model) == default_setting(demo_model)


def test_paths_stay_inside_the_roots(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    assert confined(f"{tmp_path}/a/../b") == tmp_path / "b"
    (tmp_path / "link").symlink_to("/etc")
    for outside in ("/etc/passwd", f"{tmp_path}/../x", f"{tmp_path}/link/passwd", "", "a\0b"):
        with pytest.raises(OutsideRoots):
            confined(outside)


def test_a_model_is_a_name_a_hub_id_or_a_path_inside_the_roots(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    hub = ("org/name", "org/name@v1:Q4_K_M", "org/name/sub/file.gguf")
    for fine in ("demo", "smollm2", *hub, f"{tmp_path}/model"):
        assert model_source(fine) == fine
    for outside in ("/etc", "../..", "~/../../etc", "/etc/x.gguf", "org/name/../../../x.gguf", "org/name@../x"):
        with pytest.raises(OutsideRoots):
            model_source(outside)


def test_words():
    assert rope_words(RopeSpec("yarn", 2.5)) == "YaRN ×2.5"
    assert rope_words(RopeSpec()) == "own RoPE"
    both = QuantizerSpec(4, scale="block", group_size=32, rotation="hadamard")
    assert quant_words(QuantSpec(k=both, v=both)) == "K and V int4 per block of 32, Hadamard"
    assert quant_words(QuantSpec()) == "nothing quantized"
    asked = Setting(RopeSpec("yarn", 4.0), QuantSpec(), search=SearchSpec(length=1024), text="technical")
    assert whole_setting_words(asked) == (
        "YaRN ×4 · nothing quantized · 1024 tokens · 8 bands · symmetric scales, per layer and KV head · "
        "method gradient · the Python language reference"
    )
    assert [seconds_words(s) for s in (0.4, 59, 125)] == ["0 s", "59 s", "2 min 05 s"]


def test_an_untuned_model_offers_identity_and_a_folder_that_is_free(demo_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choices = offered(demo_model, setting_of(Choice(), demo_model), None, None)
    assert [scales.is_identity for scales, _ in choices.values()] == [True]
    assert default_folder(demo_model) == "runs/demo-qroar"
    (tmp_path / "runs" / "demo-qroar").mkdir(parents=True)
    assert default_folder(demo_model) == "runs/demo-qroar-2"


def test_a_latent_cache_is_told_before_anything_is_measured(demo_model):
    """MLA: the status bar says what Diagnose would refuse; weights and activations are judged as ever."""
    geometry = replace(demo_model.geometry, latent_dim=8)
    latent = SimpleNamespace(geometry=geometry)
    setting = replace(default_setting(demo_model), quant=QuantSpec(k=QuantizerSpec(4)))
    assert verdict_for(demo_model, setting).acts == "yes"
    said = verdict_for(latent, setting)
    assert said.acts == "no"
    assert "a K/V cache quantizer has nothing to round and is refused" in said.reason
    assert verdict_for(latent, replace(setting, quant=QuantSpec(qk=QuantizerSpec(8)))).acts == "yes"
    kept = replace(setting, quant=QuantSpec(k=QuantizerSpec(4, residual=setting.search.length)))
    said = verdict_for(demo_model, kept)  # too short a text for the cache to round anything
    assert (said.acts, "every query reads all keys exactly" in said.reason) == ("no", True)
    longer = replace(kept, search=replace(setting.search, length=setting.search.length + 1))
    assert verdict_for(demo_model, longer).acts == "yes"


def test_an_export_from_the_page_says_the_command_that_repeats_it(demo_model, tmp_path, monkeypatch):
    """The note's line, given to the real command line, writes the same file; scales come from the page's."""
    monkeypatch.chdir(tmp_path)
    setting = replace(default_setting(demo_model), rope=RopeSpec("linear", 2.0))
    bands = ((0, 15), (16, 31))
    g = torch.tensor([[0.5, 2.0]] * 2, dtype=torch.float64).expand(4, 2, 2).contiguous()
    scales = Scales("symmetric", "kv_head", bands, g)
    (tmp_path / "scales.json").write_text(to_file(demo_model, setting.rope, setting.quant, scales).to_json())
    asked = {}
    fake = SimpleNamespace(submit=lambda key, work, *args, **kw: asked.update(work=work, args=args))
    monkeypatch.setattr(export_job, "manager", lambda: fake)
    for name, chosen in (("plain", None), ("scaled", scales)):
        export_job.start(demo_model, setting, chosen, tmp_path / name, "gguf-q8_0")
        written = asked["work"](*asked["args"]).folder
        note = json.loads((written / "qroar.json").read_text())
        assert f"    {note['command']}\n" in (written / "README.md").read_text()
        words = shlex.split(note["command"])
        assert words[:5] == ["python", "-m", "qroar_core", "export", "demo"]
        assert main([*words[3:-1], str(tmp_path / f"{name} again")]) == 0
        again = json.loads((tmp_path / f"{name} again" / "qroar.json").read_text())
        (file,) = [n for n in note["files"] if n.endswith(".gguf")]
        assert again["files"][file] == note["files"][file]
