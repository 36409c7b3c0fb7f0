"""Export without a browser: what is offered when, the report from memory, and the recipes for other runtimes."""

import json

import pytest
from safetensors.torch import load_file

from qroar_core.setting import default_setting
from tests.pages.visitor import clicked, go, texts, visit

pytestmark = pytest.mark.slow
SERVING = (
    *("llama.cpp (xllamacpp 2026.10)", "transformers 5", "transformers 4.57", "vLLM 0.32", "SGLang 0.5.23"),
    *("mlx-lm 0.32", "OpenVINO 2026.4 (optimum-intel 2.2)"),
)


def done(app, page, label):
    go(app, page)
    clicked(app, label)


def downloads(app):
    return [d.label for d in app.get("download_button")]


def links(app):
    return [link.proto.label for link in app.get("page_link")]


def test_sections_are_headers(loaded_app):
    assert [one.value for one in loaded_app.header] == ["The setup"]
    go(loaded_app, "export")
    assert [one.value for one in loaded_app.header] == ["scales.json", "report.html", "Checkpoint folder"]
    assert [one.value for one in loaded_app.subheader] == ["How to serve it"]


def test_the_report_says_what_is_missing_and_where_to_make_it(loaded_app):
    go(loaded_app, "export")
    assert "The report needs a diagnosis and a search and an evaluation of this setup first." in texts(loaded_app)
    assert {"Go and make a diagnosis", "Go and make a search", "Go and make an evaluation"} <= set(links(loaded_app))
    done(loaded_app, "tune", "Start the search")  # makes the diagnosis too
    go(loaded_app, "export")
    assert "The report needs an evaluation of this setup first." in texts(loaded_app)
    assert downloads(loaded_app) == ["Download scales.json"]


def test_the_report_is_offered_once_everything_is_there_and_built_from_it(loaded_app, demo_model):
    from pages import jobs
    from pages.state import session
    from pages.views.report import build_report

    done(loaded_app, "tune", "Start the search")
    done(loaded_app, "evaluate", "Evaluate")
    go(loaded_app, "export")
    assert downloads(loaded_app) == ["Download scales.json", "Download report.html"]
    assert loaded_app.code[1].value == "python -m qroar_core run demo --rope yarn --factor 4 --k int4 --out runs/again"
    setting = default_setting(demo_model)
    outcome = jobs.search.result(demo_model, setting)
    evaluation = jobs.evaluate.result(demo_model, setting, outcome)
    text = build_report(demo_model, setting, jobs.diagnose.result(demo_model, setting), outcome, evaluation)
    assert "Significant gain: +0.2500 nats" in text
    assert "python -m qroar_core run demo --rope yarn --factor 4 --k int4 --out runs/again" in text
    assert demo_model.fingerprint in text
    assert text.count("Plotly.newPlot(") > 12
    assert session.manager().idle()


def test_a_setting_that_no_option_spells_is_named_beside_the_command(loaded_app):
    go(loaded_app, "tune")
    loaded_app.number_input(key="max_log2_scale").set_value(2.5).run()
    done(loaded_app, "tune", "Start the search")
    done(loaded_app, "evaluate", "Evaluate")
    go(loaded_app, "export")
    assert "repeats all of it (no option sets search.max_log2_scale: the command takes the default)" in texts(
        loaded_app
    )


def test_every_runtime_has_a_recipe_before_and_after_writing(loaded_app, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    go(loaded_app, "export")
    labels = [tab.label for tab in loaded_app.tabs]
    assert labels == list(SERVING)
    loaded_app.text_input(key="folder").set_value(str(tmp_path / "new"))
    clicked(loaded_app, "Write the checkpoint")
    assert loaded_app.success[0].value.startswith(f"Written to `{tmp_path / 'new'}`")
    shown = {tab.label: tab.code[0].value for tab in loaded_app.tabs}
    python, serve, convert = (shown[name] for name in ("transformers 5", "vLLM 0.32", "llama.cpp (xllamacpp 2026.10)"))
    assert f"AutoModelForCausalLM.from_pretrained('{tmp_path / 'new'}', dtype=\"auto\")" in python
    assert serve == f"vllm serve {tmp_path / 'new'} --max-model-len 1024 --dtype float32"
    first, second = convert.splitlines()
    assert first == f"python convert_hf_to_gguf.py {tmp_path / 'new'} --outfile {tmp_path / 'new'}.gguf --outtype f16"
    assert second == (
        f"LLAMA_ATTN_ROT_DISABLE=1 llama-server -m {tmp_path / 'new'}.gguf -c 1024 --rope-scaling yarn "
        "--rope-scale 4 --yarn-orig-ctx 256 --cache-type-k q4_0"
    )
    assert "q4_0 has a scale per 32 channels" in texts(loaded_app)
    namespace = {}
    exec(python, namespace)  # what is shown is what works
    assert namespace["model"].config.rope_parameters["factor"] == 4.0


def test_every_format_is_written_and_shown_how_to_load(loaded_app, demo_model, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    go(loaded_app, "export")
    formats = loaded_app.selectbox(key="export format")
    assert formats.options[1] == "W4A16 folder, groups of 64: vLLM, transformers with compressed-tensors"
    assert len(formats.options) == 6
    formats.set_value("w4a16").run()
    assert "symmetric scales change no 4-bit code" in texts(loaded_app)
    assert [tab.label for tab in loaded_app.tabs] == [
        "transformers 5",
        "transformers 4.57",
        "vLLM 0.32",
        "SGLang 0.5.23",
    ]
    loaded_app.text_input(key="folder").set_value(str(tmp_path / "packed"))
    clicked(loaded_app, "Write the checkpoint")
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    assert config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] == 64
    loaded_app.selectbox(key="export format").set_value("gguf-q8_0").run()
    loaded_app.text_input(key="folder").set_value(str(tmp_path / "served"))
    clicked(loaded_app, "Write the checkpoint")
    (tab,) = loaded_app.tabs
    file = tmp_path / "served" / "demo-Q8_0.gguf"
    assert tab.code[0].value == f"LLAMA_ATTN_ROT_DISABLE=1 llama-server -m {file} -c 1024 --cache-type-k q4_0"
    assert file.is_file()


def test_what_readers_do_otherwise_is_said_before_anything_is_written(loaded_app):
    go(loaded_app, "export")
    said = next(one.value for one in loaded_app.caption if one.value.startswith("What runtimes do otherwise"))
    assert "CTranslate2 4.8 refuses yarn and dynamic" in said
    assert "vLLM 0.32 serves a float32 folder in bfloat16" in said
    gguf = next(one for one in loaded_app.selectbox(key="export format").options if "GGUF F16" in one)
    loaded_app.selectbox(key="export format").select(gguf).run()
    assert not any("runtimes do otherwise" in one.value for one in loaded_app.caption)


def test_what_was_chosen_stays_through_another_page_and_a_reload(loaded_app):
    done(loaded_app, "tune", "Start the search")
    go(loaded_app, "export")
    first, *others = loaded_app.selectbox(key="export scales").options
    assert loaded_app.selectbox(key="export scales").value == first
    for name in others:
        loaded_app.selectbox(key="export scales").select(name).run()
        go(loaded_app, "bands")
        go(loaded_app, "export")
        assert loaded_app.selectbox(key="export scales").value == name
    file_format = loaded_app.selectbox(key="export format").options[1]
    loaded_app.selectbox(key="export format").select_index(1).run()
    written = loaded_app.selectbox(key="export format").value
    assert written != "hf", file_format
    address = {name: value if isinstance(value, str) else value[0] for name, value in loaded_app.query_params.items()}
    other = go(visit(loaded_app, **address), "export")
    assert other.selectbox(key="export scales").value == others[-1]
    assert other.selectbox(key="export format").value == written


def test_scales_that_this_setting_has_none_of_are_said_to_be_missing(loaded_app):
    done(loaded_app, "tune", "Start the search")
    go(loaded_app, "export")
    loaded_app.selectbox(key="export scales").select("MAD clipping").run()
    go(loaded_app, "start")
    loaded_app.pills(key="preset").select("YaRN ×2, int4 K cache").run()
    go(loaded_app, "export")
    assert loaded_app.selectbox(key="export scales").value.startswith("identity")
    assert "MAD clipping was chosen, and none exists under this setup" in texts(loaded_app)


@pytest.mark.parametrize("format", ["hf", "w4a16"])
def test_an_fp8_cache_with_static_scales_is_written_with_those_of_the_core(
    loaded_app, demo_model, tmp_path, monkeypatch, format
):
    """Measured on the setup's own text and length; W4A16 with the linear layers rounded, which other scales fit."""
    from qroar_core.exporters.cache_scales import measured
    from qroar_core.models.text_choice import texts_of
    from qroar_core.specs import RopeSpec, WeightQuantSpec

    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    loaded_app.number_input(key="length").set_value(256).run()
    loaded_app.selectbox(key="quantizer").select("fp8-calibrated").run()
    go(loaded_app, "export")
    loaded_app.selectbox(key="export format").set_value(format).run()
    assert "a k_scale and a v_scale a layer from the checkpoint: they are measured on" in texts(loaded_app)
    loaded_app.text_input(key="folder").set_value(str(tmp_path / "scaled"))
    clicked(loaded_app, "Write the checkpoint")
    tensors = load_file(tmp_path / "scaled" / "model.safetensors")
    layers = range(demo_model.geometry.n_layers)
    found = {
        name: [tensors[f"model.layers.{layer}.self_attn.{name}"].item() for layer in layers]
        for name in ("k_scale", "v_scale")
    }
    rope, text = RopeSpec("yarn", 4.0), texts_of("messages")["calibration"]
    weights = WeightQuantSpec(4, "group", 64, full_range=True) if format == "w4a16" else None
    core = measured(demo_model, rope, None, text, 256, weights=weights)
    assert found == {"k_scale": list(core.k), "v_scale": list(core.v)}
    assert len({*core.k, *core.v}) == 2 * len(layers)  # no two alike
    assert "--kv-cache-dtype fp8_e4m3" in " ".join(code.value for code in loaded_app.code)
