"""What the demo model reads: the vendored text, its tokenizer and the stream of tokens windows are drawn from."""

import hashlib
import lzma
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

TEXT = Path(__file__).resolve().parent / "train_text.txt.xz"
TEXT_SHA256 = "0b33001b9681ebea343a3719cd8a10fdc96ce0581071bb112f5eeef90db67901"  # unpacked; see text/PROVENANCE.md
DOCUMENT_END = "\f\n"  # as text/build.py joins the messages
END_TOKEN = "<|endoftext|>"


def read_documents(path: Path = TEXT) -> list[str]:
    """Training documents, whole.

    Raises:
        SystemExit: the text is not the one the recorded checksum belongs to.
    """
    data = lzma.decompress(path.read_bytes())
    if hashlib.sha256(data).hexdigest() != TEXT_SHA256:
        raise SystemExit(f"{path}: unpacked sha256 differs from TEXT_SHA256; rebuild it with assets/text/build.py")
    return data.decode("utf-8").split(DOCUMENT_END)


def train_tokenizer(documents: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE learnt from the training text only; it adds no special token when it encodes."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END_TOKEN, eos_token=END_TOKEN)


def token_stream(documents: list[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """All documents in order, each closed by END_TOKEN; int64, (tokens,)."""
    end = [tokenizer.eos_token_id]
    return torch.tensor([token for ids in tokenizer(documents)["input_ids"] for token in ids + end])


def draw_windows(stream: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Windows from random places; int64, (count, length)."""
    starts = torch.randint(0, len(stream) - length, (count,), generator=generator)
    return stream[starts[:, None] + torch.arange(length)]
