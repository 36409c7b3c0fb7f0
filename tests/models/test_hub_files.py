"""Which files of a repository are fetched, and what a typed name means: chosen from lists of real repositories."""

from __future__ import annotations

import json

import pytest

from qroar_core.errors import QRoarError
from qroar_core.models.hub_files import chosen, is_model, quant_of
from qroar_core.models.model_argument import HubModel, hub_model, parse
from qroar_core.models.snapshots import snapshot_of

INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
MISTRAL = [  # as Mistral-7B-Instruct-v0.3 has them, and more beside
    ".gitattributes",
    "README.md",
    "config.json",
    "consolidated.safetensors",
    "generation_config.json",
    "chat_template.jinja",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model-00003-of-00002.safetensors",
    "model.safetensors.index.json",
    "params.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "tokenizer_config.json",
    "merges.txt",
    "original/consolidated.00.pth",
    "original/params.json",
    "original/model.safetensors",
    "onnx/model.onnx",
    "onnx/config.json",
    "pytorch_model.bin",
    "consolidated.safetensors.index.json",
]
TOKENIZER = ["tokenizer.json"]
SHELF = [  # a shelf of GGUF files, as people publish them
    "config.json",
    "README.md",
    "Tiny-1B.Q2_K.gguf",
    "Tiny-1B.Q4_K_M.gguf",
    "Tiny-1B.IQ4_XS.gguf",
    "Tiny-1B.Q8_0.gguf",
    "Tiny-1B.BF16.gguf",
    "mmproj-Tiny-1B-f16.gguf",
    "imatrix_unsloth.gguf",
    "Tiny-1B-LoRA-F16.gguf",
    "mtp-Tiny.gguf",
    "F32/Tiny-1B-F32-00001-of-00003.gguf",
    "F32/Tiny-1B-F32-00003-of-00003.gguf",
    "F32/Tiny-1B-F32-00002-of-00003.gguf",
]


def pick(files, quant="", file="", index=INDEX):
    def read(name):
        assert name == "model.safetensors.index.json"
        return json.dumps(index).encode()

    return chosen(files, read, "asked", "org/name", quant, file)


def refusal(*args, **options):
    with pytest.raises(QRoarError) as error:
        pick(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_its_texts_and_the_weights_that_the_index_names():
    assert pick(MISTRAL) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors.index.json",
        "params.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_without_an_index_one_file_or_all_at_the_top():
    single = ["config.json", *TOKENIZER, "model.safetensors", "model.fp16.safetensors", "sub/model.safetensors"]
    assert pick(single) == ["config.json", *TOKENIZER, "model.safetensors"]
    gptq = ["config.json", *TOKENIZER, "gptq_model-4bit-128g.safetensors", "quantize_config.json"]
    assert pick(gptq) == ["config.json", "quantize_config.json", *TOKENIZER, "gptq_model-4bit-128g.safetensors"]
    both = ["config.json", *TOKENIZER, "model.safetensors", "model-Q8_0.gguf"]
    assert pick(both) == ["config.json", *TOKENIZER, "model.safetensors"]
    assert pick(both, quant="q8_0") == ["model-Q8_0.gguf"]


def test_an_index_that_lies_is_one_line():
    assert "names model-00009.safetensors, which is not there" in refusal(
        MISTRAL, index={"weight_map": {"a": "model-00009.safetensors"}}
    )
    assert "is no index of weights" in refusal(MISTRAL, index={"weights": 1})
    assert "is no index of weights" in refusal(MISTRAL, index=[])


def test_an_index_in_another_coding_is_named_with_what_to_do():
    text = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    do = "tell its author, or download the repository, save that file as UTF-8{} and give the folder"

    def line(content):
        with pytest.raises(QRoarError) as error:
            chosen(MISTRAL, lambda name: content, "asked", "org/name")
        return str(error.value).removeprefix("asked: model.safetensors.index.json ")

    marked = do.format(" without a byte order mark")
    assert line(text.encode("utf-8-sig")) == f"begins with a byte order mark; {marked}"
    assert line(text.encode("utf-16")) == f"begins with the byte order mark of UTF-16; {marked}"
    assert line(text.encode("utf-16-le")) == f"cannot be read (not UTF-8 text: a zero at byte 1); {do.format('')}"
    assert line(b"\xe9" + text.encode()) == f"cannot be read (not UTF-8 text at byte 0); {do.format('')}"
    assert line(b"<html>") == "cannot be read (not JSON: Expecting value: line 1 column 1 (char 0)); tell its author"


def test_an_adapter_is_asked_for_its_base_alone():
    assert pick(["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]) == ["adapter_config.json"]


def test_nothing_that_can_be_loaded():
    assert refusal(["config.json", "pytorch_model.bin"]) == (
        "asked: only pickled weights (pytorch_model.bin); convert them to safetensors first"
    )
    assert "neither safetensors nor GGUF" in refusal(["README.md", "sub/model.safetensors"])


def test_a_shelf_says_what_it_holds_and_how_to_name_one():
    assert refusal(SHELF) == (
        "asked: it holds GGUF files: F32, BF16, IQ4_XS, Q2_K, Q4_K_M, Q8_0; name one, as in org/name:Q4_K_M"
    )
    assert refusal(["a-Q8_0.gguf", "b-Q8_0.gguf"]) == (
        "asked: it holds GGUF files: a-Q8_0.gguf, b-Q8_0.gguf; name one, as in org/name/a-Q8_0.gguf"
    )
    many = refusal([f"model-{i:02}.gguf" for i in range(30)])
    assert "model-11.gguf and 18 more; name one" in many


@pytest.mark.parametrize(
    ("quant", "found"),
    [
        ("Q4_K_M", ["Tiny-1B.Q4_K_M.gguf"]),
        ("q8_0", ["Tiny-1B.Q8_0.gguf"]),
        ("iq4_xs", ["Tiny-1B.IQ4_XS.gguf"]),
        ("f32", [f"F32/Tiny-1B-F32-0000{i}-of-00003.gguf" for i in (1, 2, 3)]),
    ],
)
def test_a_quantization_is_named_in_either_case_and_brings_all_its_shards(quant, found):
    assert pick(SHELF, quant=quant) == found


def test_a_quantization_is_not_a_part_of_another_one():
    assert pick(["m-BF16.gguf", "m-F16.gguf"], quant="F16") == ["m-F16.gguf"]
    assert pick(["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"], quant="Q4_K_M") == ["m-Q4_K_M.gguf"]
    assert pick(["m-UD-Q4_K_XL.gguf", "m-Q4_K_M.gguf"], quant="UD-Q4_K_XL") == ["m-UD-Q4_K_XL.gguf"]
    assert "no GGUF file of Q4_K; it holds" in refusal(SHELF, quant="Q4_K")  # Q4_K_M is another one
    assert refusal(["a-Q8_0.gguf", "b-Q8_0.gguf"], quant="Q8_0") == (
        "asked: 2 GGUF files of Q8_0: a-Q8_0.gguf, b-Q8_0.gguf; name the file, as in org/name/a-Q8_0.gguf"
    )
    assert refusal(["model.safetensors"], quant="Q8_0").endswith("drop :Q8_0 to load its safetensors")


def test_a_file_by_its_path_and_a_shard_by_any_of_them():
    assert pick(SHELF, file="Tiny-1B.Q2_K.gguf") == ["Tiny-1B.Q2_K.gguf"]
    assert pick(SHELF, file="F32/Tiny-1B-F32-00002-of-00003.gguf") == pick(SHELF, quant="F32")
    assert pick(SHELF, file="mmproj-Tiny-1B-f16.gguf") == ["mmproj-Tiny-1B-f16.gguf"]  # its reader says why not
    assert "no file x.gguf; it holds F32, BF16" in refusal(SHELF, file="x.gguf")
    assert "no file x.gguf, and no other" in refusal(["model.safetensors"], file="x.gguf")
    half = "m-00001-of-00002.gguf"
    assert "m-00002-of-00002.gguf is missing in the repository" in refusal([half], file=half)


def test_what_lies_beside_a_model_is_none():
    assert [name for name in SHELF if is_model(name)] == [
        *(n for n in SHELF if "Tiny-1B." in n),
        *(n for n in SHELF if n.startswith("F32/")),
    ]
    assert is_model("florence-1b.gguf")
    names = ("a-Q4_K_M.gguf", "b.UD-IQ2_XXS.gguf", "gpt-oss-20b-mxfp4.gguf", "c.gguf", "Q8-x.gguf")
    assert [quant_of(name) for name in names] == ["Q4_K_M", "UD-IQ2_XXS", "mxfp4", "", ""]


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        ("org/name", HubModel("org/name")),
        ("org/name-1.5_x:Q4_K_M", HubModel("org/name-1.5_x", quant="Q4_K_M")),
        ("org/name@v1.0", HubModel("org/name", "v1.0")),
        ("org/name@feature/x:UD-Q4_K_XL", HubModel("org/name", "feature/x", "UD-Q4_K_XL")),
        ("org/name@refs/pr/3/sub/a b.gguf", HubModel("org/name", "refs/pr/3", file="sub/a b.gguf")),
        ("org/name@main/a.gguf", HubModel("org/name", "main", file="a.gguf")),
        ("org/name:Q4_K_M@main", HubModel("org/name", "main", quant="Q4_K_M")),
        ("org/name/sub/a b.gguf@refs/pr/3", HubModel("org/name", "refs/pr/3", file="sub/a b.gguf")),
        ("org/name/a@b.gguf", HubModel("org/name", file="a@b.gguf")),
        ("org/name/sub/a.GGUF", HubModel("org/name", file="sub/a.GGUF")),
        *(
            (typed, None)
            for typed in (
                "demo",
                "org/",
                "/org/name",
                "./org/name",
                "../name",
                "~/name",
                "org/name/",
                "org/name/sub",
                "org/name:",
                "org/name@",
                "org/name/../a.gguf",
                "org/name@../x",
                "org/name:Q4_K_M@",
                "org/name:Q4_K_M@a/../b",
                "org/name@v1:Q4_K_M@v2",
                "org/name@a//b",
                "org/na me",
                "org/name\0",
                "C:\\a\\b.gguf",
                "org/name/./a.gguf",
                "two words",
                "org/name:a/b",
            )
        ),
    ],
)
def test_what_a_typed_name_means(typed, model):
    assert parse(typed) == model


def test_a_folder_here_is_no_repository_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_model("org/name/a.gguf") == HubModel("org/name", file="a.gguf")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert hub_model("org/name/a.gguf") is None


def test_a_place_in_the_hubs_cache_is_called_by_its_repository(tmp_path):
    storage, commit = tmp_path / "models--org--my-name", "0123456789abcdef" * 2 + "01234567"
    folder = storage / "snapshots" / commit
    (folder / "sub").mkdir(parents=True)
    (storage / "refs" / "refs" / "pr").mkdir(parents=True)
    (storage / "refs" / "main").write_text(commit)
    (storage / "refs" / "v1").write_text("f" * 40)
    (storage / "refs" / "refs" / "pr" / "1").write_text(commit)
    found = snapshot_of(folder)
    assert (found.label, found.words) == (
        "org/my-name",
        "org/my-name on the Hugging Face hub, revision main, refs/pr/1, commit 0123456789ab",
    )
    file = folder / "sub" / "Tiny-Q8_0-00001-of-00002.gguf"
    assert snapshot_of(file).label == "org/my-name/sub/Tiny-Q8_0"
    assert snapshot_of(tmp_path / "models--gpt2" / "snapshots" / commit).label == "gpt2"
    assert "revision" not in snapshot_of(tmp_path / "models--gpt2" / "snapshots" / commit).words
    (tmp_path / "link").symlink_to(folder)
    assert snapshot_of(tmp_path / "link").label == "org/my-name"
    assert snapshot_of(tmp_path / "models--org--x" / "snapshots" / "main") is None
    assert snapshot_of(tmp_path) is None


def test_weights_without_a_config_or_a_tokenizer_are_refused_from_the_list():
    assert refusal(["model.safetensors", "tokenizer.json"]) == (
        "asked: it has safetensors and no config.json at its top; name a repository that holds a model"
    )
    assert "it holds GGUF files: Q8_0" in refusal(["model.safetensors", "m-Q8_0.gguf"])
    for others in ([], ["tokenizer.model"], ["vocab.json"]):
        line = refusal(["config.json", "model.safetensors", *others])
        assert line.startswith(
            "asked: it has safetensors and no tokenizer.json at its top; download it, save its token"
        )
    lists = ["config.json", "merges.txt", "vocab.json", "model.safetensors"]
    assert pick(lists) == lists
