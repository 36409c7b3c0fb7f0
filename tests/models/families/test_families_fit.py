"""What the stages write of families that differ fits together as a file is asked to when it is read."""

from __future__ import annotations

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.result_shapes import contradiction
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from tests.models.families_table import CASES, loaded_of
from tests.models.small_specs import SMALL, TEXT

QUICK = ("smollm3", "gemma3", "qwen3_next")  # no RoPE in some layers, two bases, layers without attention
WHOLE = QuantSpec(qk=QuantizerSpec(8))  # of both tensors, and of families whose cache holds no K


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_diagnosis_of_any_family_is_read_again(byte_tokenizer, tokenizer_folder, tmp_path, name):
    loaded = loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    rope = RopeSpec() if "yarn" in name else RopeSpec("linear", 2.0)  # DeepSeek's own may not be replaced
    found = diagnose.run(loaded, Setting(rope, WHOLE, diagnosis=SMALL), TEXT)
    assert contradiction(found) == ""
    file = tmp_path / "diagnosis.json"
    file.write_text(found.to_json())
    assert Diagnosis.from_file(file).bands == found.as_written().bands
