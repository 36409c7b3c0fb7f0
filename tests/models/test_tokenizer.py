"""A folder's tokenizer: the tokens of its tokenizer.json whatever else it says; ids the model has no row for."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from qroar_core.errors import BadCheckpoint, BadSpec, BadText
from qroar_core.models.bos import opening
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.read_tokenizer import write_tokenizer
from qroar_core.models.sources import DEMO
from qroar_core.models.text import Document, encode
from qroar_core.models.token_ids import adds_first_space, token_ids
from qroar_core.models.tokenizer import read_tokenizer
from tests.models.small_vocabularies import sentencepiece, texts, write_gguf

CLASSES = (
    *("GPT2Tokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast", "CohereTokenizer"),
    *("CohereTokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast"),
    *("GemmaTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "NobodysTokenizer", None),
)
ENDS = "<|endoftext|>"
DIGITS = {"type": "Digits", "individual_digits": True}
BOS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": ENDS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {ENDS: {"id": ENDS, "ids": [0], "tokens": [ENDS]}},
}
HARD = "In 1837 e\u0301t\u00e9  12345.\n\n  x=3;" + ENDS + " a\u00a0b \u212b"


def folder(path, config=None, **parts):
    """The demo's tokenizer with changed parts of tokenizer.json and another config."""
    path.mkdir(exist_ok=True)
    content = json.loads((DEMO / "tokenizer.json").read_text())
    digits = {"type": "Sequence", "pretokenizers": [DIGITS, content["pre_tokenizer"]]}
    (path / "tokenizer.json").write_text(json.dumps(content | {"pre_tokenizer": digits} | parts))
    config = {"bos_token": ENDS, "eos_token": ENDS} if config is None else config
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("normalizer", [None, {"type": "NFC"}], ids=["as typed", "NFC"])
def test_tokenizer_json_is_the_law(tmp_path, name, normalizer):
    said = {"tokenizer_class": name, "bos_token": ENDS, "eos_token": ENDS, "add_prefix_space": True}
    path = folder(tmp_path / "m", said, normalizer=normalizer)
    shutil.copyfile(DEMO / "config.json", path / "config.json")
    ours, law = read_tokenizer(path, "m", 2048), Tokenizer.from_file(str(path / "tokenizer.json"))
    for text in [HARD, *texts(3000).values()]:
        assert ours(text)["input_ids"] == law.encode(text).ids
    assert json.loads(ours.backend_tokenizer.to_str()) == json.loads(law.to_str())
    assert (ours.bos_token_id, ours.eos_token, ours.pad_token) == (0, ENDS, None)


def test_the_law_is_broken_by_transformers_classes(tmp_path):
    """What the test above would let through, were it blind: the class GPT2Tokenizer gives other tokens."""
    from transformers import GPT2Tokenizer

    path = folder(tmp_path / "m")
    law = Tokenizer.from_file(str(path / "tokenizer.json"))
    assert GPT2Tokenizer.from_pretrained(path)(HARD)["input_ids"] != law.encode(HARD).ids


@pytest.mark.parametrize(
    ("processor", "flag", "wanted"),
    [(None, None, []), (None, True, [0]), (None, False, []), (BOS, None, [0]), (BOS, True, [0]), (BOS, False, [0])],
)
def test_bos_comes_from_tokenizer_json_or_from_the_configs_flag(tmp_path, processor, flag, wanted):
    config = {"bos_token": {"content": ENDS}, "tokenizer_class": "LlamaTokenizerFast"}
    config |= {} if flag is None else {"add_bos_token": flag}
    ours = read_tokenizer(folder(tmp_path / "m", config, post_processor=processor), "m")
    bare = ours("a b", add_special_tokens=False)["input_ids"]
    assert ours("a b")["input_ids"] == wanted + bare
    assert len(bare) == 2


def test_a_token_put_before_texts_is_bos_where_no_file_names_it(tmp_path):
    path = folder(tmp_path / "m", {}, post_processor=BOS)
    (path / "tokenizer_config.json").unlink()
    assert read_tokenizer(path, "m").bos_token_id == 0
    assert read_tokenizer(folder(tmp_path / "n", {}), "n").bos_token_id is None


def test_a_flag_without_its_token_is_one_line(tmp_path):
    path = folder(tmp_path / "m", {"bos_token": "<s>", "add_bos_token": True})
    with pytest.raises(BadCheckpoint, match=r"m: tokenizer_config.json says add_bos_token, .* no token '<s>'"):
        read_tokenizer(path, "m")


@pytest.mark.parametrize("flag", ["true", 1, [True]])
def test_an_add_bos_token_that_is_no_switch_is_refused(tmp_path, flag):
    path = folder(tmp_path / "m", {"add_bos_token": flag})
    with pytest.raises(BadCheckpoint, match=r"m: tokenizer_config.json: add_bos_token is .*; write true or false$"):
        read_tokenizer(path, "m")


def test_a_config_changes_no_token_of_tokenizer_json(tmp_path):
    token = {"content": ENDS, "lstrip": True, "rstrip": True, "normalized": True, "special": True}
    extra = {"0": token, "2048": token | {"content": "<new>"}}
    config = {"bos_token": token, "added_tokens_decoder": extra, "pad_token": "<pad>"}
    ours = read_tokenizer(folder(tmp_path / "m", config, truncation=None), "m")
    law = Tokenizer.from_file(str(tmp_path / "m" / "tokenizer.json"))
    text = f"a  {ENDS}  b <new> <pad>"
    assert ours(text)["input_ids"] == law.encode(text).ids
    assert ours.pad_token is None


def test_a_stored_truncation_or_padding_cuts_nothing(tmp_path):
    short = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    pad = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": ENDS,
    }
    ours = read_tokenizer(folder(tmp_path / "m", truncation=short, padding=pad), "m")
    assert len(ours("a b c d")["input_ids"]) == 4
    assert ours.backend_tokenizer.encode("a b c d").ids == ours("a b c d")["input_ids"]


def test_a_template_of_its_own_file_comes_before_the_configs(tmp_path):
    path = folder(tmp_path / "m", {"chat_template": "config"})
    assert read_tokenizer(path, "m").chat_template == "config"
    (path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert read_tokenizer(path, "m").chat_template == "json"
    (path / "chat_template.jinja").write_text("jinja")
    assert read_tokenizer(path, "m").chat_template == "jinja"
    several = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    assert read_tokenizer(folder(tmp_path / "n", {"chat_template": several}), "n").chat_template == {
        "default": "one",
        "tool_use": "two",
    }


def test_special_tokens_map_names_what_the_config_does_not(tmp_path):
    path = folder(tmp_path / "m", {"eos_token": "the"})
    (path / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": ENDS}, "eos_token": ENDS}))
    ours = read_tokenizer(path, "m")
    assert (ours.bos_token, ours.eos_token) == (ENDS, "the")


def lists(path, name):
    path.mkdir()
    model = json.loads((DEMO / "tokenizer.json").read_text())["model"]
    (path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in model["merges"]))
    config = {"tokenizer_class": name, "unk_token": ENDS, "bos_token": ENDS, "eos_token": ENDS, "pad_token": ENDS}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2TokenizerFast"])
def test_lists_are_read_through_a_class_that_says_how_text_is_cut(tmp_path, name):
    ours = read_tokenizer(lists(tmp_path / "m", name), "m", 2048)
    law = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    if name.startswith("Qwen2"):  # tokenizer.json of Qwen2.5
        one = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        one += r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        content = json.loads((DEMO / "tokenizer.json").read_text())
        split = {"type": "Split", "pattern": {"Regex": one}, "behavior": "Isolated", "invert": False}
        steps = [split, content["pre_tokenizer"] | {"use_regex": False}]
        content |= {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "normalizer": {"type": "NFC"}}
        law = Tokenizer.from_str(json.dumps(content))
    for text in [HARD, *texts(3000).values()]:
        assert token_ids(ours, text) == law.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "m: no tokenizer.json: how it cuts text is not known"),
        ({"tokenizer.model": "x"}, "no tokenizer.json, only tokenizer.model: how"),
        ({"tekken.json": "{}"}, "only tekken.json"),
        ({"vocab.json": "{}", "merges.txt": ""}, "only vocab.json, merges.txt"),
        ({"tokenizer.json": "{"}, "m: tokenizer.json cannot be read"),
        ({"tokenizer.json": "[]"}, "m: tokenizer.json cannot be read"),
        ({"tokenizer_config.json": "{", "tokenizer.json": "law"}, "m: tokenizer_config.json cannot be read"),
        ({"tokenizer_config.json": "[]", "tokenizer.json": "law"}, "m: tokenizer_config.json cannot be read"),
        ({"tokenizer.json": "\ufeff{}"}, "m: tokenizer.json begins with a byte order mark; save it as UTF-8 without"),
        (
            {"tokenizer_config.json": "\ufeff{}", "tokenizer.json": "law"},
            "m: tokenizer_config.json begins with a byte order mark; save it as UTF-8 without",
        ),
        (
            {"tokenizer_config.json": '{"bos_token": 3}', "tokenizer.json": "law"},
            "bos_token is 3, a text belongs there; fetch",
        ),
        ({"tokenizer_config.json": '{"chat_template": [1]}', "tokenizer.json": "law"}, "chat_template is no text"),
    ],
)
def test_what_says_too_little_is_refused_in_one_line(tmp_path, files, message):
    for name, content in files.items():
        text = (DEMO / "tokenizer.json").read_text() if content == "law" else content
        (tmp_path / name).write_text(text)
    with pytest.raises(BadCheckpoint, match=message) as error:
        read_tokenizer(tmp_path, "m")
    assert "\n" not in str(error.value)


def test_ids_past_the_embedding_are_named_before_the_model_sees_them(tmp_path):
    plain = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    named = {0: ENDS, 2048: "<|im_start|>", 2049: "<|im_end|>"}
    added = [{"id": i, "content": text, **plain} for i, text in named.items()]
    ours = read_tokenizer(folder(tmp_path / "m", added_tokens=added), "m", 2048)
    assert max(token_ids(ours, texts(3000)["messages"])) < 2048
    for text in ("a <|im_end|> b", "<|im_end|><|im_start|>"):
        with pytest.raises(BadText, match=r"note.txt: it holds the token '<\|im_end\|>' with id 2049, .* 2048 rows;"):
            encode(ours, Document("note.txt", text))
    assert token_ids(read_tokenizer(tmp_path / "m", "m", 2050), "<|im_end|>") == [2049]
    last = max(ours.backend_tokenizer.get_vocab(with_added_tokens=False).items(), key=lambda pair: pair[1])
    with pytest.raises(BadCheckpoint, match=rf"m: its tokenizer gives '.+' the id {last[1]}, .* has {last[1]} rows"):
        read_tokenizer(folder(tmp_path / "n"), "m", last[1])


@pytest.fixture(scope="module")
def spm(tmp_path_factory):
    path = tmp_path_factory.mktemp("spm")
    tokens, types, scores = sentencepiece()
    write_gguf(path / "m.gguf", tokens, types, scores=scores, model="llama", pre=None, eos_token_id=2)
    write_tokenizer(read_header(path / "m.gguf"), path, "m")
    return read_tokenizer(path, "m", len(tokens))


def test_a_piece_inside_a_text_gets_no_space_of_its_own(spm):
    assert adds_first_space(spm)
    assert spm.convert_ids_to_tokens(token_ids(spm, "."))[0] == "▁"
    assert spm.convert_ids_to_tokens(token_ids(spm, ".", inside=True)) == ["."]
    parts = ["The king is", " 37363", ".\n\n", "And", " the"]
    pieces = [token_ids(spm, part, inside=i > 0) for i, part in enumerate(parts)]
    assert spm.decode([i for piece in pieces for i in piece]) == "".join(parts)
    spaced = [token_ids(spm, part) for part in parts]
    assert spm.decode([i for piece in spaced for i in piece]) != "".join(parts)


@pytest.mark.parametrize("scheme", ["always", "first"])
def test_every_way_to_write_a_first_space_is_known(spm, scheme):
    backend = Tokenizer.from_str(spm.backend_tokenizer.to_str())
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    other = type(spm)(tokenizer_object=backend)
    assert other.convert_ids_to_tokens(token_ids(other, "."))[0] == "▁"
    assert other.convert_ids_to_tokens(token_ids(other, ".", inside=True)) == ["."]
    backend = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bytes_ = type(spm)(tokenizer_object=backend)
    assert token_ids(bytes_, "the") != token_ids(bytes_, "the", inside=True)
    assert bytes_.convert_ids_to_tokens(token_ids(bytes_, "the", inside=True)) == ["the"]


def test_a_tokenizer_without_a_first_space_codes_every_piece_alike(demo):
    assert not adds_first_space(demo.tokenizer)
    for text in texts(2000).values():
        assert token_ids(demo.tokenizer, text, inside=True) == token_ids(demo.tokenizer, text)


def test_a_loaded_model_knows_its_rows(demo):
    assert torch.equal(encode(demo.tokenizer, Document("a", "the")), torch.tensor(token_ids(demo.tokenizer, "the")))
    rows = demo.model.get_input_embeddings().weight.shape[0]
    assert max(token_ids(demo.tokenizer, texts(9000)["technical"])) < rows


def test_bos_past_the_embedding_is_named_before_the_model_sees_it(tmp_path):
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    put = {
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, *BOS["single"][1:]],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [2048], "tokens": ["<s>"]}},
    }
    added = [{"id": 0, "content": ENDS, **flags}, {"id": 2048, "content": "<s>", **flags}]
    ours = folder(tmp_path, {"bos_token": "<s>"}, added_tokens=added, post_processor=BOS | put)
    for bos in ("auto", "on"):
        with pytest.raises(BadSpec, match=rf"--bos {bos}: the BOS token '<s>' has id 2048, .* 2048 rows; choose --bos"):
            opening(read_tokenizer(ours, "m", 2048), bos)
    assert opening(read_tokenizer(ours, "m", 2048), "off").ids == ()
    assert opening(read_tokenizer(ours, "m", 2049), "auto").ids == (2048,)


def test_what_makes_the_same_text_other_tokens_each_time_is_refused(tmp_path):
    model = json.loads((DEMO / "tokenizer.json").read_text())["model"] | {"dropout": 0.5}
    with pytest.raises(BadCheckpoint, match=r"m: tokenizer.json cuts text at random \(dropout 0.5\); set its dropout"):
        read_tokenizer(folder(tmp_path, model=model), "m")


def test_a_flag_that_is_no_flag_is_refused(tmp_path):
    with pytest.raises(BadCheckpoint, match=r"tokenizer_config.json: add_bos_token is 'true'; write true or false"):
        read_tokenizer(folder(tmp_path, {"bos_token": ENDS, "add_bos_token": "true"}), "m")
