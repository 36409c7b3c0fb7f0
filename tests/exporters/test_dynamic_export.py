"""Dynamic NTK: the folder keeps the native window, which transformers counts from, and promises it times the factor.

Oracles: the closed form of docs/method.md for frequencies, transformers' own classes on the folder, and how vLLM 0.32
(vllm/config/model.py `_get_and_verify_max_len`) and SGLang derive a length from config.json.
"""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from qroar_core.__main__ import main
from qroar_core.cli.exports import require_promised
from qroar_core.errors import BadSpec
from qroar_core.exporters import hf, verify
from qroar_core.exporters.exported import of_folder, of_setting
from qroar_core.exporters.folder import NOTE, write_note
from qroar_core.exporters.readers import limits_of, recipes
from qroar_core.exporters.served import served_folder, served_setting
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.load import run as load_model
from qroar_core.specs import QuantSpec, RopeSpec

NATIVE, S = 256, 4.0
DYNAMIC = RopeSpec("dynamic", S)


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    return hf.run(demo, DYNAMIC, None, tmp_path_factory.mktemp("dynamic") / "out")


def closed(length, pairs=32, theta=1e4):
    """omega_i g^(-2i/(r-2)), g = s L/L0 - (s - 1)."""
    g = max(S * length / NATIVE - (S - 1), 1.0)
    return [theta ** (-i / pairs) * g ** (-i / (pairs - 1)) for i in range(pairs)]


@pytest.mark.parametrize("length", [100, 256, 700, 1024])
def test_transformers_turns_the_folder_as_dynamic_ntk_does_up_to_the_promised_length(folder, length):
    """So max_position_embeddings is the native window: with the promised one there, nothing would be stretched."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rotary = model.model.rotary_emb
    rotary(torch.zeros(1), torch.arange(length)[None])
    torch.testing.assert_close(rotary.inv_freq, torch.tensor(closed(length)), rtol=2e-6, atol=0)
    assert math.isclose(model.config.max_position_embeddings, NATIVE)


def test_config_recipes_card_and_promise_are_one_length(demo, folder):
    said = json.loads((folder / "config.json").read_text())
    factors = {said[name]["factor"] for name in ("rope_parameters", "rope_scaling")}
    assert (said["max_position_embeddings"], factors) == (NATIVE, {S})
    longest = int(said["max_position_embeddings"] * said["rope_parameters"]["factor"])  # as vLLM and SGLang derive it
    assert longest == 1024 == promised_length(demo, DYNAMIC)
    assert of_folder(folder, "hf").context == of_setting(demo, DYNAMIC, "hf", None).context == longest
    note = json.loads((folder / NOTE).read_text())
    for served in (
        served_folder(folder, note, DYNAMIC),
        served_setting(demo, DYNAMIC, QuantSpec(), 1024, folder, "hf"),
    ):
        known = recipes(served)
        assert served.native == NATIVE
        assert known["vLLM 0.32"].code == f"vllm serve {folder} --max-model-len 1024 --dtype float32"
        assert known["SGLang 0.5.23"].code.endswith("--context-length 1024 --dtype float32")
        assert "keep requests under 1,024 tokens" in known["mlx-lm 0.32"].notes[0]
        for name in ("transformers 5", "transformers 4.57"):
            assert any("native window of 256 tokens" in note and "max_new_tokens" in note for note in known[name].notes)
    card = (folder / "README.md").read_text()
    assert "`rope_parameters` of config.json.\n- Context: 1,024 tokens, 4 times the native window. " in card
    assert "which stays the native window of 256: give a runtime the length that you serve.\n" in card
    assert "--max-model-len 1024" in card


def test_generate_needs_max_new_tokens_past_the_native_window(demo, folder):
    """What the recipe says of transformers: its default end is max_position_embeddings."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.arange(300)[None] % 200
    with pytest.raises(ValueError, match="`max_length` is set to 256"):
        model.generate(ids, pad_token_id=0)
    assert model.generate(ids, max_new_tokens=2, min_new_tokens=2, pad_token_id=0).shape == (1, 302)


@pytest.mark.parametrize("rope", [RopeSpec(), RopeSpec("yarn", 4.0), RopeSpec("linear", 2.0), RopeSpec("ntk", 2.0)])
def test_elsewhere_the_promise_is_max_position_embeddings(demo, rope, tmp_path):
    folder = hf.run(demo, rope, None, tmp_path / "out")
    found = of_folder(folder, "hf")
    own = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    assert found.context == found.window == own == promised_length(demo, rope)
    assert "Context:" not in (folder / "README.md").read_text()


def test_a_checkpoint_of_its_own_dynamic_ntk_keeps_its_promise(demo, folder, tmp_path):
    own = load_model(str(folder), device="cpu")
    again = of_folder(hf.run(own, RopeSpec(), None, tmp_path / "out"), "hf")
    assert (again.window, again.context) == (NATIVE, promised_length(own, RopeSpec())) == (256, 1024)


def test_what_runtimes_do_with_it_is_said_and_no_second_stretch(demo):
    said = limits_of(of_setting(demo, DYNAMIC, "hf", None))
    sglang = [line for line in said if line.startswith("SGLang")]
    assert any("freezes dynamic NTK at the longest context that it promises, the factor" in line for line in sglang)
    assert not any("once more" in line for line in said)  # of 256, not of 1,024: what is promised
    assert (
        "vLLM 0.32 computes NaN or arbitrary numbers past the native window under dynamic NTK: export with --rope ntk."
        in said
    )


def test_verify_holds_the_promise_against_the_setting(demo, folder, tmp_path):
    check = verify._context(demo, DYNAMIC, folder, "hf")
    assert (check.answer, check.passed) == ("1,024 tokens, 4 times max_position_embeddings", True)
    wrong = shutil.copytree(folder, tmp_path / "wrong")
    said = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps(said | {"max_position_embeddings": 1024}))
    note = json.loads((wrong / NOTE).read_text())
    note.pop("files")
    write_note(wrong, note)
    found = {check.question: check for check in verify.run(wrong)}
    check = found["context that it promises"]
    assert (check.answer, check.passed) == ("4,096 tokens, 4 times max_position_embeddings, not 1,024", False)
    assert found["interpolation against the setup's"].passed is False  # nothing is stretched up to 1,024 then
    config = found["config.json against what this export writes"]
    assert config.answer == "max_position_embeddings is 1024, an export writes 256"


def test_the_promised_length_is_served_and_no_longer_one(tmp_path, capfd):
    out = tmp_path / "out"
    words = ["export", "demo", "--rope", "dynamic", "--factor", "4", "--print-serving", "--json", "--out", str(out)]
    assert main([*words, "--length", "1024"]) == 0
    said = json.loads(capfd.readouterr().out)
    (code,) = (one["code"] for one in said["serving"] if one["runtime"] == "vLLM 0.32")
    assert code == f"vllm serve {out} --max-model-len 1024 --dtype float32"


@pytest.mark.parametrize(
    ("rope", "format", "promised", "do"),
    [
        (DYNAMIC, "hf", 1024, "raise --factor"),
        (RopeSpec("dynamic", 8.0), "w4a16", 2048, "raise --factor"),  # as the refusal of factor 4 says
        (RopeSpec("yarn", 2.0), "hf", 512, "raise --factor"),
        (RopeSpec("linear", 2.0), "gguf-q4_0", 512, "raise --factor"),  # the file says its window itself
        (RopeSpec(), "hf", 256, "add --rope and --factor"),
    ],
    ids=lambda it: getattr(it, "method", it),
)
def test_a_longer_text_than_is_promised_is_refused_with_what_helps(demo, rope, format, promised, do):
    require_promised(demo, rope, {"length": promised, "format": format})
    with pytest.raises(BadSpec) as refused:
        require_promised(demo, rope, {"length": promised + 1, "format": format})
    assert str(refused.value) == f"--length: the export promises {promised:,} tokens; {do}, or give less"
