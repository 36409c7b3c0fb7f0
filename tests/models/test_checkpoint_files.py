"""Whatever stands under the name of a checkpoint's small file is refused in one line, at once and in little memory."""

import codecs
import json
import shutil
import subprocess
import sys

import pytest

from qroar_core.errors import BadCheckpoint
from qroar_core.exporters.card import card_of
from qroar_core.models.checkpoint_files import MOST, TEMPLATE, limit, table_in
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO
from qroar_core.models.tokenizer import read_tokenizer
from tests.helpers.strange_files import DEEP, NO_FILES, at_once, pipe, sparse

INDEX = "model.safetensors.index.json"
READ = (  # by this software, at every load
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
    "quantize_config.json",
    INDEX,
)
NAMES = (*READ, "tokenizer.json", "chat_template.jinja", "chat_template.json", "vocab.json", "tokenizer.model")


@pytest.fixture
def demo(tmp_path):
    shutil.copytree(DEMO, tmp_path / "demo")
    return tmp_path / "demo"


def refused(folder):
    with at_once(60), pytest.raises(BadCheckpoint) as caught:
        load_model(str(folder), device="cpu")
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 400 + len(str(folder))
    return said


def replace(path, make):
    path.unlink(missing_ok=True)
    make(path)


@pytest.mark.parametrize("name", [*NAMES, "model.safetensors"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_taken_for_an_absent_one(demo, name, kind):
    make, said = NO_FILES[kind]
    replace(demo / name, make)
    assert f"{name} cannot be read ({said}" in refused(demo)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_one_byte_too_large_is_refused(demo, name):
    replace(demo / name, sparse(limit(name) + 1))
    assert f"{name} cannot be read (it has more than {limit(name):,} bytes, which no real one reaches)" in refused(demo)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("kind", DEEP)
def test_what_is_nested_too_deeply_is_refused(demo, name, kind):
    (demo / name).write_text(DEEP[kind])
    assert f"{name} cannot be read (lists and tables nested too deeply)" in refused(demo)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("content", [b'\xff\xfe{"a": 1}', b"\0\0\0", b"[]", b'{"vocab_size": ' + b"9" * 5000 + b"}"])
def test_what_is_no_table_is_refused(demo, name, content):
    (demo / name).write_bytes(content)
    assert f"{name} {'begins with' if content[0] == 0xFF else 'cannot be read ('}" in refused(demo)


MEASURED = """
import resource, sys
from pathlib import Path
from qroar_core.errors import QRoarError
from qroar_core.models.load import run as load_model
load_model("demo", device="cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in Path(sys.argv[1]).iterdir():
    try:
        load_model(str(folder), device="cpu")
        print(folder.name, "loaded")
    except QRoarError:
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_files_of_gigabytes_take_no_memory(tmp_path):
    """In a process of its own: what tokenizers and transformers read is not Python's memory."""
    for i, name in enumerate(NAMES):
        shutil.copytree(DEMO, tmp_path / str(i))
        replace(tmp_path / str(i) / name, sparse(2**31))
    ran = subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 64, ran.stdout  # MiB; each of them took 2,000 and more


def test_a_chat_template_is_not_larger_for_standing_in_a_table(demo):
    path = demo / "tokenizer_config.json"
    table = json.loads(path.read_text()) if path.exists() else {}
    for template, fits in (("a" * TEMPLATE, True), ("a" * (TEMPLATE + 1), False)):
        for said in (template, [{"name": "default", "template": template}]):
            path.write_text(json.dumps(table | {"chat_template": said}))
            if fits:
                assert read_tokenizer(demo, "demo").chat_template
            else:
                with pytest.raises(BadCheckpoint, match="its chat template is longer than 1,048,576 characters"):
                    read_tokenizer(demo, "demo")
    path.write_text(json.dumps(table | {"chat_template": [{"name": "default", "template": 7}]}))
    with pytest.raises(BadCheckpoint, match="chat_template is no text"):
        read_tokenizer(demo, "demo")


def test_real_files_lie_far_below_every_limit():
    """Sizes of published checkpoints, bytes: the largest of each kind that is known here."""
    largest = {
        "tokenizer.json": 35e6,  # Gemma 3
        "tokenizer_config.json": 12e6,  # a Llama with 65,536 codes of speech
        INDEX: 20e6,  # Kimi K2, packed
        "config.json": 7e6,  # a mixture of experts with a format a tensor
        "generation_config.json": 2e3,
        "chat_template.jinja": 30e3,
    }
    assert all(2 * size <= MOST[name] for name, size in largest.items())


def test_a_card_that_is_no_file_is_not_waited_for(tmp_path):
    pipe(tmp_path / "README.md")
    with at_once(), pytest.raises(BadCheckpoint, match=r"README.md cannot be read \(it is a pipe"):
        card_of({}, tmp_path)


MARKED = {  # a shell or an editor saved it anew: what it begins with, and what that is called
    "utf-8": (codecs.BOM_UTF8, "a byte order mark"),
    "utf-16-le": (codecs.BOM_UTF16_LE, "the byte order mark of UTF-16"),
    "utf-16-be": (codecs.BOM_UTF16_BE, "the byte order mark of UTF-16"),
    "utf-32-le": (codecs.BOM_UTF32_LE, "the byte order mark of UTF-32"),
    "utf-32-be": (codecs.BOM_UTF32_BE, "the byte order mark of UTF-32"),
}


@pytest.mark.parametrize("coding", MARKED)
@pytest.mark.parametrize("name", [*READ, "hf_quant_config.json"])
def test_a_byte_order_mark_of_any_coding_is_named_with_what_to_do(tmp_path, name, coding):
    mark, words = MARKED[coding]
    (tmp_path / name).write_bytes(mark + '{"a": "é"}'.encode(coding))
    with pytest.raises(BadCheckpoint) as error:
        table_in(tmp_path / name)
    assert str(error.value) == (f"{tmp_path}: {name} begins with {words}; save it as UTF-8 without a byte order mark")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"a": 1}'.encode("utf-16-le"), "not UTF-8 text: a zero at byte 1"),
        (b'\xe9{"a": 1}', "not UTF-8 text at byte 0"),
        (b'{"a": "\xe9"}', "not UTF-8 text at byte 7"),
        (b'{"a": "' + b"x" * 5000 + b'\xe9"}', "not UTF-8 text at byte 5007"),
    ],
)
@pytest.mark.parametrize("name", ["adapter_config.json", INDEX])
def test_another_coding_is_to_be_saved_as_utf8(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadCheckpoint) as error:
        table_in(tmp_path / name)
    assert str(error.value) == f"{tmp_path}: {name} cannot be read ({why}); save it as UTF-8, or fetch it again"


def test_an_adapter_with_a_mark_is_refused_by_its_file_before_the_weights(tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(DEMO, folder)
    (folder / "adapter_config.json").write_bytes('{"peft_type": "LORA"}'.encode("utf-16"))
    with pytest.raises(BadCheckpoint, match=r"m: adapter_config.json begins with the byte order mark of UTF-16; save"):
        load_model(str(folder), device="cpu")
