"""What llama.cpp is asked for by a name it does not have: one line that lists the known, installed or not."""

from __future__ import annotations

import pytest


def test_an_unknown_k_cache_of_llama_cpp_is_one_line(tmp_path):
    from qroar_core.errors import BadSpec
    from qroar_core.models.llama_cpp import LlamaCpp

    with pytest.raises(BadSpec) as told:
        LlamaCpp(tmp_path / "m.gguf", 8, k_cache="q5_1")
    assert str(told.value) == "llama.cpp: unknown K cache 'q5_1'; choose one of f16, q8_0, q4_0"
