"""What the pages share and needs no browser: the address line, paths, words, recipes."""

import pytest

from pages.parts.choice import Choice, from_address, setting_of, to_address
from pages.parts.paths import OutsideRoots, confined, model_source
from pages.parts.recipes import default_folder, offered
from pages.parts.words import quant_words, rope_words, seconds_words
from qroar_core.presets import preset_names, preset_quant
from qroar_core.runs.setting import default_setting
from qroar_core.specs import BandSpec, DiagnosisSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec


@pytest.mark.parametrize("name", preset_names())
def test_an_address_gives_back_exactly_what_was_chosen(name):
    chosen = Choice(
        model="demo", length=512, bands=BandSpec(4, "log"), rope=RopeSpec("yarn", 4.0), quant=preset_quant(name),
        diagnosis=DiagnosisSpec(eps=1e-2, paired=False), search=SearchSpec(steps=3),
        evaluation=EvaluationSpec(lengths=(64, 128)),
    )  # fmt: skip
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
    for fine in ("demo", "smollm2", "org/name", f"{tmp_path}/model"):
        assert model_source(fine) == fine
    for outside in ("/etc", "../..", "~/../../etc", "/etc/x.gguf"):
        with pytest.raises(OutsideRoots):
            model_source(outside)


def test_words():
    assert rope_words(RopeSpec("yarn", 2.5)) == "YaRN ×2.5"
    assert rope_words(RopeSpec()) == "own RoPE"
    both = QuantizerSpec(4, scale="block", group_size=32, rotation="hadamard")
    assert quant_words(QuantSpec(k=both, v=both)) == "K and V int4 per block of 32, Hadamard"
    assert quant_words(QuantSpec()) == "nothing quantized"
    assert [seconds_words(s) for s in (0.4, 59, 125)] == ["0 s", "59 s", "2 min 05 s"]


def test_an_untuned_model_offers_identity_and_a_folder_that_is_free(demo_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choices = offered(demo_model, setting_of(Choice(), demo_model), None, None)
    assert [scales.is_identity for scales, _ in choices.values()] == [True]
    assert default_folder(demo_model) == "runs/demo-qroar"
    (tmp_path / "runs" / "demo-qroar").mkdir(parents=True)
    assert default_folder(demo_model) == "runs/demo-qroar-2"
