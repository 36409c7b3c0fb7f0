"""The library's functions against the stages they call, the command line's words, and files read back."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import qroar_core as qroar
from qroar_core.cli.settings import quant_spec
from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import BadOutput, BadScales, BadSpec, QRoarError
from qroar_core.evaluation import run as evaluate
from qroar_core.models.text_files import Document
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.pipeline import save_search
from qroar_core.scale_search.contradictions import FEW_ROWS
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.file import from_file

ROOT = Path(__file__).parents[2]
INT4 = QuantSpec(k=QuantizerSpec(4), name="int4")


@pytest.fixture(scope="module")
def texts():
    letters = "".join(chr(97 + (i * i) % 26) for i in range(6000))
    return {name: [Document(name, letters[i:])] for i, name in enumerate(("calibration", "development", "heldout"))}


@pytest.fixture
def setup(monkeypatch, texts):
    monkeypatch.setattr(qroar.Setup, "texts", lambda self: texts)
    return qroar.Setup(rope=qroar.Rope("yarn", factor=2), quantization=qroar.quantization(k="int4"), length=96, bands=3)


def test_importing_the_package_loads_no_torch_and_every_name_is_there():
    code = "import qroar_core as q, sys; assert 'torch' not in sys.modules; [getattr(q, n) for n in q.__all__]"
    code += "; print(*dir(q))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(qroar.__all__) <= set(done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        qroar.nonsense  # noqa: B018


def test_a_setup_fills_in_for_a_model_what_it_leaves_open(tiny, setup):
    model = tiny()
    setting = setup.resolve(model)
    assert (setting.rope, setting.quant) == (RopeSpec("yarn", 2.0), INT4)
    assert (setting.search.length, setting.diagnosis.length, max(setting.evaluation.lengths)) == (96, 96, 96)
    assert setting.search.bands == setting.diagnosis.bands == BandSpec(3)
    open_one = qroar.Setup(seed=5).resolve(model)
    assert open_one.rope == RopeSpec()
    assert open_one.quant == INT4
    assert open_one.search.length == model.geometry.original_context  # its own RoPE promises no more
    assert {open_one.search.seed, open_one.diagnosis.seed, open_one.evaluation.seed} == {5}
    assert repr(qroar.Setup(seed=5)) == "qroar.Setup(seed=5)"
    with pytest.raises(QRoarError, match="bands"):
        qroar.Setup(bands=99).resolve(model)
    with pytest.raises(BadSpec, match="too few"):
        qroar.Setup(length=4).resolve(model)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ({"k": "int4"}, {"k": "int4"}),
        ({"kv": "q4_0"}, {"kv": "q4_0"}),
        ({"k": "int3", "v": "int4"}, {"k": "int3", "v": "int4"}),
        ({"kv": "int4", "kv_scale": "block", "group_size": 16}, {"kv": "int4", "kv_scale": "block", "group_size": 16}),
        ({"k": "int4", "kv_rotation": True}, {"k": "int4", "kv_rotation": "hadamard"}),
        ({"k": "int4", "k_before_rope": True}, {"k": "int4", "k_before_rope": True}),
        ({"weights": "int4", "weight_scale": "group"}, {"weights": "int4", "weight_scale": "group"}),
        ({"weights": "w4a16", "qk": "int8"}, {"weights": "w4a16", "qk": "int8"}),
        ({"k": "kivi2", "activations": "int8"}, {"k": "kivi2", "activations": "int8"}),
    ],
)
def test_quantization_takes_the_words_of_the_command_line(words, options):
    asked = qroar.quantization(**words)
    assert asked == quant_spec(options)
    assert asked.name == quant_spec(options).name


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"k": "int9"}, r"quantization\(k=...\): unknown cache quantizer 'int9'; choose int2 to int8, or"),
        ({"weights": "q4"}, r"quantization\(weights=...\): unknown value 'q4'; choose one of int2, .*w4a16"),
        ({"kv": "int4", "k": "int8"}, "give kv, or k and v"),
        ({"kv_scale": "block"}, "nothing in the cache is quantized"),
        ({"v": "int4", "k_before_rope": True}, 'add k="int4"'),
    ],
)
def test_a_word_it_does_not_know_gets_one_line(words, line):
    with pytest.raises(BadSpec, match=line) as refused:
        qroar.quantization(**words)
    assert "\n" not in str(refused.value)


def test_a_diagnosis_is_the_stages_with_figures_a_table_and_a_file(tiny, setup, texts, tmp_path):
    model = tiny(head_dim=32)
    found = qroar.diagnose(model, setup)
    setting = setup.resolve(model)
    plain = diagnose.run(model, setting, texts["calibration"]).as_written()
    assert found.model_dump(exclude={"seconds"}) == plain.model_dump(exclude={"seconds"})
    names = found.figures()
    assert {"pressure", "tails", "logit_noise", "outliers", "pair_error"} <= set(names)
    (picture,) = found.pictures("pressure")
    figure = found.plot("pressure")
    assert figure.layout.title.text == picture.title
    assert len(figure.data) == len(picture.figure.data)
    assert found.table()["band"].tolist() == [0, 1, 2]
    assert found.text in repr(found)
    assert repr(found).startswith("Diagnosis: 3 bands")
    again = qroar.Diagnosis.load(found.save(tmp_path / "diagnosis.json"))
    assert found.save(tmp_path / "diagnosis.json").is_file()  # one of its own is replaced
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(qroar.QRoarError, match="something else lies there; choose another name"):
        found.save(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert again == found
    with pytest.raises(BadSpec, match="no figure 'noise'; choose one of pressure"):
        found.plot("noise")


def test_a_search_a_transform_and_an_evaluation_go_round_through_their_files(tiny, setup, texts, tmp_path):
    model = tiny(head_dim=32)
    found = qroar.search(model, setup, windows=2)
    path = found.found.save(tmp_path / "scales.json")
    read = qroar.Transform.load(path)
    assert torch.equal(read.scales(model).g, found.outcome.found.g)
    assert torch.equal(from_file(path, model)[0].g, found.outcome.found.g)  # what every command reads
    assert found.transform.is_identity == (found.report.chosen == "identity")
    assert found.report.reason in found.summary()
    assert found.report.reason in repr(found)
    setting = setup.resolve(model)
    mine = qroar.evaluate(model, setup, read, windows=2, rotation=False)
    asked = setting.evaluation.__class__(lengths=setting.evaluation.lengths, windows=2, rotation=False)
    plain = evaluate.run(
        model, replace(setting, evaluation=asked), found.outcome.found, None, texts["heldout"]
    ).as_written()
    assert mine.window_nll == plain.window_nll
    assert mine.sentence == plain.sentence
    assert mine.sentence in mine.summary()
    assert "quantized, tuned" in mine.summary()
    with pytest.raises(BadScales, match="made for"):
        qroar.evaluate(tiny(seed=7, head_dim=32), setup, read)


def test_a_search_goes_round_through_its_folder_and_is_read_from_a_run(tiny, setup, tmp_path):
    model = tiny(head_dim=32)
    found = qroar.search(model, setup, windows=2)
    folder = found.save(tmp_path / "search")
    assert folder == tmp_path / "search"
    again = qroar.Search.load(folder)
    assert again == found
    for name in ("found", "kept", "smooth", "mad"):
        assert torch.equal(getattr(again.outcome, name).g, getattr(found.outcome, name).g)
    assert again.summary() == found.summary()
    assert qroar.Transform.load(folder / "scales.json") == found.transform
    halfway = [[[2 ** (high / 2) for _, high in bands]] * 2 for bands in found.report.bounds * 2][:2]
    some = found.found.model_copy(update={"g": halfway, "granularity": "kv_head"})
    some.save(folder / "scales_found.json")
    older = {"identity": "no significant gain", "found": "significant gain, +0.01 nats [0.005] on 2 held-out windows"}
    for chosen, reason in older.items():  # both ways, whatever this search decided
        said = {"chosen": chosen, "reason": reason, "guard": "costs +0.0010 nats at 16 tokens, allowed 0.01"}
        least = min(one.objective for one in found.report.history if not FEW_ROWS.fullmatch(one.label))
        report = found.report.model_copy(update=said | {"decision": None, "objective_found": least})
        (folder / "search.json").write_text(report.to_json())
        again = qroar.Search.load(folder)
        assert again.found == some
        assert again.transform.g == (halfway if chosen == "found" else [[[1.0] * 3] * 2] * 2)
    mixed = some.model_copy(update={"value_maps": [[torch.eye(32).tolist()] * 2] * 2, "version": 4})
    mixed.save(folder / "scales_found.json")  # the report that says found was written last; say identity again
    (folder / "search.json").write_text(
        report.model_copy(update={"chosen": "identity", "reason": older["identity"]}).to_json()
    )
    again = qroar.Search.load(folder)
    assert again.found.value_maps is not None
    assert again.transform.value_maps is None
    assert again.transform.is_identity
    setting = setup.resolve(model)
    run = RunFolder.open(tmp_path / "run", model, setting, "qroar run x")
    save_search(run, model, setting, found.outcome, 1.0)
    assert qroar.Search.load(run.path).found.g == found.found.g
    with pytest.raises(BadOutput, match="holds a run, with a search of its own"):
        found.save(run.path)


def test_a_folder_that_is_no_search_or_of_two_is_refused(tiny, setup, tmp_path):
    found = qroar.search(tiny(head_dim=32), setup, windows=2)
    folder = found.save(tmp_path / "search")
    other = found.mad.model_copy(update={"model": found.mad.model.model_copy(update={"fingerprint": "0" * 16})})
    other.save(folder / "scales_mad.json")
    with pytest.raises(BadOutput, match="its files are of several models"):
        qroar.Search.load(folder)
    found.save(folder)
    far = found.found.model_copy(update={"g": (found.outcome.found.g * 64).tolist(), "granularity": "kv_head"})
    far.save(folder / "scales_found.json")
    with pytest.raises(BadOutput, match="bounds"):
        qroar.Search.load(folder)
    (folder / "scales_found.json").unlink()
    with pytest.raises(BadOutput, match=r"scales_found\.json: no such file: not a search; give what save wrote"):
        qroar.Search.load(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOutput, match="file"):
        found.save(tmp_path / "file")


def test_an_export_holds_the_scales_and_refuses_what_it_cannot_write(tiny, setup, tmp_path):
    from safetensors.torch import load_file

    model = tiny(head_dim=32)
    found = qroar.search(model, setup, windows=2)
    g = found.outcome.found
    folder = qroar.export(model, setup, found.found, tmp_path / "out")
    written = load_file(folder / "model.safetensors")["model.layers.0.self_attn.k_proj.weight"]
    own = model.model.model.layers[0].self_attn.k_proj.weight
    channel = g.bands[0][0]
    assert torch.allclose(written[channel], own[channel] / g.g[0, 0, 0].float(), rtol=1e-6)
    with pytest.raises(
        BadSpec, match=r"gguf edits a \.gguf file, and this writes a loaded model; choose one of gguf-f16"
    ):
        qroar.export(model, setup, None, tmp_path / "other", format="gguf")
    with pytest.raises(BadSpec, match="unknown format 'onnx'; choose one of hf, w4a16"):
        qroar.export(model, setup, None, tmp_path / "other", format="onnx")
    with pytest.raises(BadSpec, match="hf has no group size"):
        qroar.export(model, setup, None, tmp_path / "other", group_size=32)
    assert not (tmp_path / "other").exists()


def test_reprs_say_what_the_thing_is(tiny):
    model = tiny()
    geo = model.geometry
    assert f"{geo.n_layers} layers, {geo.n_heads} heads on {geo.n_kv_heads} KV heads" in repr(model)
    assert repr(qroar.Rope("yarn", factor=4)) == "qroar.Rope(method='yarn', factor=4)"
    assert repr(qroar.quantization(k="int4")) == "qroar.quantization(k='int4')"


@pytest.mark.parametrize(
    "thing",
    [
        qroar.Rope("yarn", factor=4.0, original_context=2048),
        qroar.Rope("ntk", factor=2.0, tie=qroar.ties("20-21,22-25:0.9,26-31:still")),
        qroar.Bands(4, "log"),
        qroar.Setup(rope=qroar.Rope("linear", factor=2.0), quantization=qroar.quantization(kv="int4"), bands=3),
        qroar.quantization(),
        qroar.quantization(kv="int4"),
        qroar.quantization(k="int3", v="int4", weights="int4", qk="int8", activations="int8"),
        qroar.quantization(kv="int4", kv_scale="block", group_size=16, weights="int4", weight_scale="group"),
        qroar.quantization(k="int4", v="int8", k_before_rope=True, weights="int3", weight_scale="tensor"),
        qroar.quantization(v="int2", kv_rotation=True, weights="int4", weight_scale="group", weight_group=64),
        qroar.quantization(k="int4", kv_scale="channel"),
    ],
    ids=repr,
)
def test_what_is_printed_of_a_setup_can_be_pasted(thing):
    said = repr(thing)
    assert said.startswith("qroar.")
    again = eval(said, {"qroar": qroar})
    assert again == thing
    assert getattr(again, "name", "") == getattr(thing, "name", "")


def test_quantizers_that_no_words_of_quantization_make_are_written_out():
    mixed = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4, scale="block", group_size=16))
    assert repr(mixed) == "QuantSpec(k=QuantizerSpec(bits=4), v=QuantizerSpec(bits=4, scale='block', group_size=16))"
    assert repr(qroar.quantization(kv="q4_0")).startswith("QuantSpec(k=QuantizerSpec(bits=4, ")
