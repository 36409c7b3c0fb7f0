"""A short text through a model before it is written: it is refused where its numbers overflow, as in any stage."""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.models.bos import adds_bos, bos_id
from qroar_core.models.finite import require_finite
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import token_nll
from qroar_core.models.stream import Condition
from qroar_core.models.text import split
from qroar_core.models.token_ids import embedding_rows
from qroar_core.models.window_losses import hidden_states
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales

TOKENS, SCORED = 96, 64  # of the embedded text that are read, and scored at their end
CHARACTERS = 43  # of that text for a token, more than of any tokenizer
LONGEST = 2048  # tokens that a runtime is asked to read


def tokens_past(loaded: LoadedModel) -> int:
    """Tokens of a text whose last SCORED lie past the native window; TOKENS where that is longer than LONGEST."""
    past = loaded.geometry.original_context + SCORED
    return past if TOKENS < past <= LONGEST else TOKENS


def sample_ids(loaded: LoadedModel, tokens: int = TOKENS) -> Tensor:
    """int64 (1, tokens): the beginning of the embedded held-out text, with BOS where windows of it have one.

    Nothing is measured on it, so tokens that the embedding has no row for are left out, and where a tokenizer has too
    few tokens for it token 0 fills the rest.
    """
    tokenizer = loaded.tokenizer
    rows = embedding_rows(tokenizer) or loaded.geometry.vocab_size
    text = split("heldout")[0].text[: CHARACTERS * tokens]
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    ids = [bos_id(tokenizer), *ids] if adds_bos(tokenizer) else ids
    held = [i for i in ids if i < rows][:tokens]
    return torch.tensor([held + [0] * (tokens - len(held))], dtype=torch.int64)


def scored(loaded: LoadedModel, condition: Condition, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Final hidden states (1, SCORED, hidden_size) and NLL (1, SCORED) of the last tokens of `ids`.

    Raises:
        NonFinite: an activation or a score that is no number, in the words of any stage.
    """
    states = hidden_states(loaded, condition, ids, SCORED)
    nll = token_nll(loaded, states, ids[:, -SCORED:].to(states.device))
    require_finite(nll.cpu(), "the NLL", condition, loaded.dtype)
    return states, nll


def require_finite_pass(loaded: LoadedModel, rope: RopeSpec, scales: Scales | None) -> None:
    """Refuse a model that no stage could measure, before it is written.

    Raises:
        NonFinite: an activation or a score that is no number, with the layer and the position.
    """
    scored(loaded, Condition(rope, QuantSpec(), scales), sample_ids(loaded))
