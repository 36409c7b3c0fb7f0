"""The model as a function of log2 g, on every family: the numbers of the scaled weights in the stream."""

import pytest
import torch

from qroar_core.interpolations.bands import band_of_channel, partition
from qroar_core.interpolations.frequencies import native_inv_freq
from qroar_core.models.condition import Condition
from qroar_core.models.differentiable import open_trainable
from qroar_core.models.stream import open_stream
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec
from qroar_core.transforms.scales import Scales
from tests.models.families_table import CASES, WIDE, loaded_of

INT4 = QuantSpec(k=QuantizerSpec(4))
TOKENS = 24


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_family_passes_through(name, byte_tokenizer, tokenizer_folder, ids):
    """One scale a layer, which is exact for families whose heads share a gain, too."""
    loaded, tokens = loaded_of(CASES[name], byte_tokenizer, tokenizer_folder), ids(TOKENS)
    geo = loaded.geometry
    bands = partition(native_inv_freq(loaded), geo.original_context, BandSpec(2))
    generator = torch.Generator().manual_seed(1)
    log2_g = (2 * torch.rand(geo.n_layers, 1, 2, generator=generator, dtype=torch.float64) - 1).repeat(
        1, geo.n_kv_heads, 1
    )
    band = band_of_channel(bands, geo.head_dim, geo.rotary_dim, geo.pairing)
    scales = Scales("symmetric", "layer", bands, log2_g[:, :1].exp2().expand_as(log2_g))
    quant = QuantSpec(qk=QuantizerSpec(4)) if CASES[name].latent else INT4
    with WIDE(), open_stream(loaded, Condition(quant=quant, scales=scales), TOKENS) as stream:
        (piece,) = list(stream.run(tokens))
    with WIDE(), torch.no_grad(), open_trainable(loaded, Condition(quant=quant), TOKENS, band, "symmetric") as model:
        mine, other = model.hidden(tokens, log2_g), model.hidden(tokens, -log2_g)
    assert float((mine - piece.hidden[0]).abs().max()) < 1e-8
    assert float((other - piece.hidden[0]).abs().max()) > 1e-6
