"""Tiny models of every family, and tokens for them."""

import pytest
import torch

from tests.models.families_table import CASES, LENGTH, VOCAB, loaded_of


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    """`build(name)` -> LoadedModel of a case of the table."""
    return lambda name: loaded_of(CASES[name], byte_tokenizer, tokenizer_folder)


@pytest.fixture
def tokens():
    return torch.randint(0, VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(5))
