"""Tokenizers of GGUF files: llama.cpp's own tokens from every split rule and from SentencePiece; broken ones refused.

Oracles: llama.cpp on the same file (xllamacpp), the `regex` package on the expressions of the models' own
tokenizer.json, Hugging Face's tokenizer.json of the demo.
"""

from __future__ import annotations

import json

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from qroar_core.errors import BadCheckpoint, QRoarError, UnsupportedModel
from qroar_core.models import smollm2
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.pretokenizers import SPLIT_RULES
from qroar_core.models.formats.gguf.read_tokenizer import write_tokenizer
from qroar_core.models.formats.gguf.tokenizer_entries import tokenizer_entries
from qroar_core.models.formats.gguf.vocabulary import ENDS
from qroar_core.models.llama_cpp import LlamaCpp, available
from qroar_core.models.sources import DEMO
from qroar_core.models.text import COLLECTIONS, SPLITS, split
from qroar_core.models.tokenizer import read_tokenizer
from tests.models.small_vocabularies import BYTE, CONTROL, NORMAL, USER, byte_level, sentencepiece, texts, write_gguf

llama_cpp = pytest.mark.skipif(not available(), reason="llama.cpp (xllamacpp) is not installed")
ONE_EACH = list({rule: pre for pre, rule in reversed(SPLIT_RULES.items())}.values())
# llama.cpp's rewritten expressions differ from the models' own for these letters (see gguf/pretokenizers.py)
REWRITTEN = {"tekken": "ÀÉÎÖß\u0301ǅªſКТ\u0939", "gpt-4o": "ÀÉÎÖß\u0301ǅªſКТ\u0939"}
LETTERS_OF_OTHERS = "\u0301\u0939\u093f\u0928\u094d\u0926\u0940"  # combining marks: gpt-4o's further names
# here llama.cpp reads white space outside ASCII as a vertical tab, the models' own rule reads it as Han
REWRITTEN |= {"deepseek-llm": "\u3000\u00a0", "deepseek-coder": "\u3000\u00a0"}
PIECES = [*"abzXYZ 019\t\n\r'.,-_=/()[]!$+<^~|`µéß中国，。あアー한🎉\u200d½²Ⅳ\u00a0\u3000ÉſǅªК", "e\u0301"]
PIECES += ["'s", "'LL", "   ", "\n\n", "1234", "ABCdef", " the ", "def f(x):"]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=20).map("".join)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def bpe():
    tokens, merges = byte_level()
    types = [CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 2)
    return {"tokens": tokens, "types": types, "merges": merges}


@pytest.fixture(scope="module")
def spm():
    tokens, types, scores = sentencepiece()
    return {
        "tokens": tokens,
        "types": types,
        "scores": scores,
        "model": "llama",
        "pre": None,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }


def written(path):
    """The tokenizers object of a GGUF file's tokenizer."""
    write_tokenizer(read_header(path), path.parent, path.name)
    return Tokenizer.from_file(str(path.parent / "tokenizer.json"))


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


@llama_cpp
def test_names_that_llama_cpp_takes_as_control_tokens_whatever_their_type(tmp_path, spm):
    """Each is a normal token of the file; found whole in a text, which SentencePiece's merges would never give."""
    for i, name in enumerate(ENDS):
        if name in spm["tokens"]:
            continue
        more = {"tokens": [*spm["tokens"], name], "types": [*spm["types"], NORMAL], "scores": [*spm["scores"], 0.0]}
        path = write_gguf(tmp_path / f"{i}.gguf", **(spm | more))
        text = f"a{name}b"
        server = LlamaCpp(path, 64)
        expected = server.tokens(text)
        assert len(spm["tokens"]) in expected, name
        assert ids(written(path), text) == expected, name


@llama_cpp
@pytest.mark.parametrize("pre", ONE_EACH)
def test_every_split_rule_gives_llama_cpps_tokens(tmp_path, bpe, pre):
    path = write_gguf(tmp_path / "m.gguf", pre=pre, **bpe)
    server, ours = LlamaCpp(path, 64), written(path)
    without = str.maketrans("", "", REWRITTEN.get(pre, ""))

    @QUICK
    @given(TEXTS)
    def same(text):
        text = text.translate(without)
        assert ids(ours, text) == server.tokens(text), text

    same()
    for name, text in texts().items():
        if name != "odd" or pre not in REWRITTEN:
            assert ids(ours, text) == server.tokens(text), name
    assert ours.encode("a").ids == server.tokens("a", add_special=True)
    dressed = "a<|im_start|>b"  # a control token inside a text
    assert ids(ours, dressed) == server.tokens(dressed)
    assert 1 in ids(ours, dressed)


@llama_cpp
@pytest.mark.slow
@pytest.mark.parametrize("pre", [pre for pre in SPLIT_RULES if pre not in ONE_EACH])
def test_every_further_name_stands_for_the_rule_it_has_in_llama_cpp(tmp_path, bpe, pre):
    path = write_gguf(tmp_path / "m.gguf", pre=pre, **bpe)
    server, ours = LlamaCpp(path, 64), written(path)
    for text in texts(4000).values():
        text = text.translate(str.maketrans("", "", LETTERS_OF_OTHERS))
        assert ids(ours, text) == server.tokens(text)
    assert ours.encode("a").ids == server.tokens("a", add_special=True)


@llama_cpp
@pytest.mark.smollm2
@pytest.mark.parametrize("collection", COLLECTIONS)
def test_smollm2s_tokens_are_llama_cpps(collection, tmp_path):
    path = smollm2.fetch()
    server = LlamaCpp(path, 64)
    write_tokenizer(read_header(path), tmp_path, "smollm2")
    ours = read_tokenizer(tmp_path, "smollm2", 49152)
    for name in SPLITS:
        for document in split(name, collection):
            assert ours(document.text)["input_ids"] == server.tokens(document.text, add_special=True)
    assert ours.convert_ids_to_tokens(ours(" 37363.")["input_ids"]) == ["Ġ", *"37363."]


def test_the_rules_cut_apart_what_the_merges_would_join(bpe, tmp_path):
    """The vocabulary can tell the rules apart: on one text nearly every rule gives tokens of its own."""
    text, seen = texts()["odd"], {}
    for pre in ONE_EACH:
        found = ids(written(write_gguf(tmp_path / "m.gguf", pre=pre, **bpe)), text)
        seen.setdefault(tuple(found), []).append(pre)
    alike = [pres for pres in seen.values() if len(pres) > 1]
    assert len(seen) >= len(ONE_EACH) - 3, alike


CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+END|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*END|"
    r"NUM| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
OWN = {  # tokenizer.json of Mistral Nemo and of gpt-oss
    "tekken": CASED.replace("END", "").replace("NUM", r"\p{N}"),
    "gpt-4o": CASED.replace("END", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?").replace("NUM", r"\p{N}{1,3}"),
}


@pytest.mark.parametrize("pre", OWN)
def test_rules_that_llama_cpp_rewrote_are_the_models_own(tmp_path, bpe, pre):
    ours = written(write_gguf(tmp_path / "m.gguf", pre=pre, **bpe)).pre_tokenizer
    expression = regex.compile(OWN[pre], regex.VERSION1)

    @QUICK
    @given(TEXTS.map(lambda text: text.replace("ſ", "")))  # both engines fold it, each in its way
    def same(text):
        found = [text[a:b] for _, (a, b) in ours.pre_tokenize_str(text)]
        assert found == [match.group() for match in expression.finditer(text)]

    same()
    assert [text for text in expression.findall("ÉCOLE OldMac")] == ["ÉCOLE", " Old", "Mac"]


@llama_cpp
@pytest.mark.parametrize(
    "options",
    [{}, {"add_space_prefix": False}, {"add_bos_token": False}, {"add_eos_token": True}, {"name": "Phi-3 mini"}],
    ids=str,
)
def test_sentencepiece_gives_llama_cpps_tokens(tmp_path, spm, options):
    if "name" in options:  # Phi-3: white space behind special tokens is dropped; it has no tokens of white space alone
        spm = spm | {"tokens": [token if token.strip(" ") else f"<{i}>" for i, token in enumerate(spm["tokens"])]}
    path = write_gguf(tmp_path / "m.gguf", **spm | options)
    server, ours = LlamaCpp(path, 64), written(path)

    @QUICK
    @given(st.lists(st.sampled_from([*PIECES, "▁", "<tag>", "<s>", "<|user|>", " king"]), max_size=20).map("".join))
    def same(text):
        assert ids(ours, text) == server.tokens(text), text

    same()
    for name, text in texts().items():
        assert ids(ours, text) == server.tokens(text), name
    assert ours.encode("a b").ids == server.tokens("a b", add_special=True)


def test_sentencepiece_goes_there_and_back(tmp_path, spm):
    ours = written(write_gguf(tmp_path / "m.gguf", add_space_prefix=False, **spm))
    for text in texts(3000).values():
        assert ours.decode(ids(ours, text)) == text
    ours = written(write_gguf(tmp_path / "m.gguf", **spm))
    assert ours.decode(ids(ours, "The king")) == "The king"
    tokens = [spm["tokens"][i] for i in ours.encode("The king\n").ids]
    assert tokens[0] == "<s>"
    assert tokens[1].startswith("▁T")
    assert tokens[-1] == "<0x0A>"
    assert spm["types"][spm["tokens"].index("<0x0A>")] == BYTE


def test_the_demos_vocabulary_gives_the_tokens_of_its_own_tokenizer_json(tmp_path):
    own = json.loads((DEMO / "tokenizer.json").read_text())
    tokens = sorted(own["model"]["vocab"], key=own["model"]["vocab"].get)
    types = [CONTROL] + [NORMAL] * (len(tokens) - 1)
    path = write_gguf(tmp_path / "m.gguf", tokens, types, merges=own["model"]["merges"], bos_token_id=0)
    ours, theirs = written(path), Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    for text in texts().values():
        assert ids(ours, text) == ids(theirs, text)


def test_special_tokens_flags_and_template_are_read(tmp_path, bpe):
    tokens = [*bpe["tokens"], "<extra>", "<|im_end|>"]
    types = [*bpe["types"], USER, NORMAL]
    keys = {"chat_template": "{{ messages[0].content }}", "padding_token_id": len(tokens) - 2, "add_bos_token": True}
    write_gguf(tmp_path / "m.gguf", tokens, types, merges=bpe["merges"], **keys)
    written(tmp_path / "m.gguf")
    ours = read_tokenizer(tmp_path, "m", len(tokens))
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token) == (1, 0, "<extra>")
    assert ours("a<extra>")["input_ids"] == [1, tokens.index("a"), len(tokens) - 2]
    assert ours.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
    assert ours.decode([tokens.index("a"), len(tokens) - 1], skip_special_tokens=True) == "a"  # NORMAL in the file
    assert ours.decode([tokens.index("a"), len(tokens) - 2], skip_special_tokens=True) == "a<extra>"


def test_padding_that_is_no_token_is_none(tmp_path, bpe):
    """llama.cpp passes it over; older converters wrote -1 or the first number past the tokens."""
    for i, number in enumerate((4294967295, len(bpe["tokens"]))):
        written(write_gguf(tmp_path / f"{i}.gguf", padding_token_id=number, unknown_token_id=number, **bpe))
        ours = read_tokenizer(tmp_path, "m", len(bpe["tokens"]))
        assert (ours.pad_token, ours.unk_token, ours.bos_token_id) == (None, None, 1)


REFUSED = {  # name: (changes of the BPE vocabulary, of the SentencePiece one; kind of error, what it says)
    "t5": ({"model": "t5"}, None, UnsupportedModel, "of the kind 't5'"),
    "none": ({"model": "no_vocab"}, None, UnsupportedModel, "no tokenizer"),
    "no model": ({"model": None}, None, BadCheckpoint, "no tokenizer.ggml.model"),
    "no pre": ({"pre": None}, None, UnsupportedModel, "no tokenizer.ggml.pre"),
    "default": ({"pre": "default"}, None, UnsupportedModel, "'default'"),
    "unknown pre": ({"pre": "kimi-k2"}, None, UnsupportedModel, "split rule 'kimi-k2'"),
    "no merges": ({"merges": None}, None, BadCheckpoint, "no tokenizer.ggml.merges"),
    "no bos id": ({"bos_token_id": None, "add_bos_token": True}, None, BadCheckpoint, "no tokenizer.ggml.bos_token_id"),
    "bos past": ({"bos_token_id": 99999}, None, BadCheckpoint, "bos_token_id is 99999"),
    "types": ({"types": [1, 1]}, None, BadCheckpoint, "token_type has 2 numbers"),
    "no scores": (None, {"scores": None}, BadCheckpoint, "no tokenizer.ggml.scores"),
    "one score": (None, {"scores": "flat"}, UnsupportedModel, "both have score 0"),
    "no byte": (None, {"tokens": "no byte"}, UnsupportedModel, "lacks the byte token <0x41>"),
    "twice": ({"tokens": "twice"}, None, BadCheckpoint, "comes twice"),
    "odd merge": ({"merges": [("a", "☃")]}, None, BadCheckpoint, "merge 0 "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_exactly_is_refused_in_one_line(tmp_path, bpe, spm, case):
    of_bpe, of_spm, kind, message = REFUSED[case]
    vocabulary = {**(bpe if of_spm is None else spm), **(of_spm if of_bpe is None else of_bpe)}
    if vocabulary.get("scores") == "flat":
        vocabulary["scores"] = [0.0] * len(spm["tokens"])
    if vocabulary["tokens"] == "twice":
        vocabulary["tokens"] = [*bpe["tokens"][:-1], bpe["tokens"][9]]
    if vocabulary["tokens"] == "no byte":
        vocabulary["tokens"] = [token.replace("<0x41>", "<0x4>") for token in spm["tokens"]]
    path = write_gguf(tmp_path / "m.gguf", **vocabulary)
    with pytest.raises(QRoarError, match=message) as error:
        written(path)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("m.gguf: ")


@pytest.mark.parametrize("pre", ONE_EACH)
def test_a_tokenizer_that_was_read_is_written_under_its_own_rule(tmp_path, bpe, pre):
    """The writer's names are the reader's: read, written, read again, the same tokens."""
    written(write_gguf(tmp_path / "m.gguf", pre=pre, **bpe))
    ours = read_tokenizer(tmp_path, "m")
    keys = {entry.key: entry.value for entry in tokenizer_entries(ours, len(bpe["tokens"]), "m")}
    assert SPLIT_RULES[keys["tokenizer.ggml.pre"]].steps == SPLIT_RULES[pre].steps
    assert keys["tokenizer.ggml.add_bos_token"] == SPLIT_RULES[pre].bos
    assert keys["tokenizer.ggml.bos_token_id"] == 1
