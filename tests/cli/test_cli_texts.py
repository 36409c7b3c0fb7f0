"""What the command line says of texts and windows: too few for the default, too few for a number, tables, BOS."""

import json
import shutil

import pytest

from qroar_core.errors import BadText
from qroar_core.models.dataset import dataset_documents
from qroar_core.models.sources import DEMO
from qroar_core.models.text import split
from tests.cli.command import printed, refused

SHORT = ("--kv", "int8", "--lengths", "64")
NAME = "<|endoftext|>"


@pytest.fixture
def text(tmp_path):
    """`text(characters)` -> a file of so many."""

    def build(characters, newline="\n"):
        path = tmp_path / "mine.txt"
        whole = "\n".join(d.text for d in split("heldout"))[:characters]
        path.write_bytes(whole.replace("\n", newline).encode())
        return path

    return build


@pytest.fixture(scope="module")
def adds_bos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "adds_bos"
    shutil.copytree(DEMO, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": NAME, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {NAME: {"id": NAME, "ids": [0], "tokens": [NAME]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def evaluation(capfd, *arguments):
    return json.loads(printed(capfd, "evaluate", *arguments, *SHORT, "--json"))


def test_windows_that_nobody_asked_for_are_as_many_as_the_text_holds(capfd, text):
    path = text(3000)  # its held-out part has about 400 tokens, the default is 16 windows
    said = evaluation(capfd, "demo", "--text", path)["text"]
    held = int(said.split()[0])
    assert 4 <= held < 16
    assert said.startswith(f"{held} windows (all that the text holds, 16 by default), 63 targets each, digest ")


def test_a_number_that_is_too_many_is_refused_and_one_that_fits_is_taken(capfd, text):
    path = text(3000)
    line = refused(capfd, "evaluate", "demo", "--text", path, *SHORT, "--windows", 16)
    assert "windows of 64 tokens, 16 are asked; give a longer text, fewer windows (--windows) or a shorter" in line
    assert evaluation(capfd, "demo", "--text", path, "--windows", 3)["text"].startswith("3 windows, 63 targets each")


def test_one_window_is_too_few_for_an_interval_whoever_chose_it(capfd, text):
    line = refused(capfd, "evaluate", "demo", "--text", text(700), *SHORT)
    assert "the text holds 1 window of 64 tokens, at least 2 are needed; give a longer text or a shorter length" in line


@pytest.mark.parametrize("command", ["evaluate", "run", "compare", "controls", "replicate", "predict"])
def test_one_window_asked_is_refused_where_an_interval_is_made(capfd, command):
    line = refused(capfd, command, "demo", "--k", "int4", "--windows", 1)
    assert line == "--windows: one window gives no interval; give at least 2"


def test_line_ends_of_windows_are_read_as_lf_and_said(capfd, text):
    plain = evaluation(capfd, "demo", "--text", text(3000))
    dos = evaluation(capfd, "demo", "--text", text(3000, "\r\n"))
    old = evaluation(capfd, "demo", "--text", text(3000, "\r"))
    assert dos["rows"] == old["rows"] == plain["rows"]
    assert dos["text"] == old["text"] == f"{plain['text']}, line ends other than LF read as LF"


@pytest.mark.parametrize(
    ("name", "content", "kind", "names"),
    [
        ("a.jsonl", b'{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n', "JSON lines", "text"),
        ("a.txt", b'\xef\xbb\xbf{"title": "x", "body": "one"}\n', "JSON lines", "title, body"),
        ("a.json", b'[{"text": "one"}]', "JSON", "text"),
        ("a.json", b'{"not": [', "JSON", ""),
        ("a.csv", b"id,text\n1,one\n", "CSV", "text"),
        ("a.csv", b'title,text\nx,"one,\ntwo"\n\ny\n', "CSV", "text, title"),
        ("a.csv", b"text\nfirst row\n", "CSV", "text"),
        ("a.csv", b",text\n0,one\n", "CSV", "text"),
        ("a.csv", b"1,one\n2,two\n", "CSV", ""),
        ("a.csv", b"id,text\n", "CSV", ""),
        ("a.TSV", b"id\ttext\n1\tone\n", "CSV", "text"),
        ("a.bin", b"PAR1\0\0\0\0PAR1", "parquet", ""),
    ],
)
def test_a_table_is_no_text_and_the_line_says_how_to_read_it(capfd, tmp_path, name, content, kind, names):
    path = tmp_path / name
    path.write_bytes(content)
    line = refused(capfd, "evaluate", "demo", "--text", path, *SHORT)
    field = names.split(", ")[0] or "FIELD"
    fields = f"; text fields: {names}" if names else ""
    rename = {"a.txt": ".jsonl", "a.bin": ".parquet"}.get(name)  # --dataset goes by the name
    do = f"name the field that holds the text: --dataset {path.with_suffix(rename) if rename else path}:{field}"
    do = f"rename it to end in {rename} and {do}" if rename else do
    assert line == f"{path}: {kind}, not a text{fields}; {do}"


SENTENCE = 'A long one, with commas, and a ""quotation"" of'


@pytest.mark.parametrize(
    ("separator", "kind", "suffix"), [(",", "CSV", ".csv"), ("\t", "CSV with tabs", ".tsv")], ids=["comma", "tab"]
)
@pytest.mark.parametrize("large", [False, True])
def test_a_csv_under_another_name_is_recognised(tmp_path, separator, kind, suffix, large):
    from qroar_core.models.text import open_text

    path, rows = tmp_path / "a.txt", 300_000 if large else 20
    lines = [separator.join((str(i), f"t{i}", f'"{SENTENCE}\n{i}"')) for i in range(rows)]
    path.write_text(separator.join(("id", "title", "body")) + "\n" + "\n".join(lines))
    with pytest.raises(BadText) as error:
        open_text(path)
    renamed = path.with_suffix(suffix)
    assert str(error.value) == (
        f"{path}: {kind}, not a text; text fields: body, title; rename it to end in {suffix} and name the field that "
        f"holds the text: --dataset {renamed}:body"
    )
    if not large:
        with pytest.raises(BadText, match=f"{kind}, not a text"):  # nor are its lines texts
            dataset_documents(f"{path}:text")
        path.rename(renamed)
        parts = dataset_documents(f"{renamed}:body").parts
        assert sum(len(part) for part in parts.values()) == rows


WORDS = "It was late, and nobody came. The lamp burned on."


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", ["label,text", "text\tlabel", "index,text", "index,label,text", "array", "pretty"])
def test_tables_that_pandas_and_json_write_are_recognised_under_another_name(tmp_path, kind, large):
    pandas = pytest.importorskip("pandas")
    from qroar_core.models.text import open_text

    path, count = tmp_path / "a.txt", 30_000 if large else 200
    table = pandas.DataFrame({"label": [i % 2 for i in range(count)], "text": [f"{WORDS} {i}" for i in range(count)]})
    if kind in ("array", "pretty"):
        path.write_text(json.dumps(table.to_dict("records"), indent=2 if kind == "pretty" else None))
    elif kind == "text\tlabel":
        table[["text", "label"]].to_csv(path, sep="\t", index=False)
    else:
        kept = table[["text"]] if kind == "index,text" else table
        kept.to_csv(path, index=kind.startswith("index"))
    said, suffix = {
        "array": ("JSON", ".json"),
        "pretty": ("JSON", ".json"),
        "text\tlabel": ("CSV with tabs", ".tsv"),
    }.get(kind, ("CSV", ".csv"))
    renamed = path.with_suffix(suffix)
    with pytest.raises(BadText) as error:
        open_text(path)
    assert str(error.value) == (
        f"{path}: {said}, not a text; text fields: text; rename it to end in {suffix} and name the field that holds "
        f"the text: --dataset {renamed}:text"
    )
    if not large:
        path.rename(renamed)
        with pytest.raises(BadText, match=f"; text fields: text; name the field .* {renamed}:text"):
            open_text(renamed)
        assert sum(len(part) for part in dataset_documents(f"{renamed}:text").parts.values()) == count


PROSE = {  # each near to a table and none
    "a verse with two commas a line": "".join(f"Oh, line {i}, and more\n" for i in range(60)),
    "equal commas below a sentence": "Below stand some names, dates, and places of them.\n" + "x, y, z\n" * 60,
    "no names above": "".join(f"{i},{i + 1},{i + 2}\n" for i in range(60)),
    "the same name twice": "a,a,b\n" + "x,y,z\n" * 60,
    "one line of another number": "a,b,c\n" + "x,y,z\n" * 40 + "x,y\n" + "x,y,z\n" * 40,
    "too few rows": "a,b,c\n" + "x,y,z\n" * 19,
    "two fields without texts": "a,b\n" + "x,y\n" * 60,
    "a verse with one comma a line": "Moon,river\n" + "Oh moon, so pale tonight\n" * 60,
    "a verse below a line without a space": "Oh moon,oh river\n" + "Oh moon,so pale tonight\n" * 60,
    "fewer than twenty rows of two": "label,text\n" + "1,so pale tonight\n" * 19,
    "a tab before every line": "\ttext\n" + "\tan indented line of words\n" * 60,
    "the same unnamed value twice": ",text\n" + "0,one line of words\n" * 60,
    "dialogue": "Anna,Ben\n" + "".join(f'Well, "it is {i}," she said.\n' for i in range(60)),
    "a table drawn in markdown": "| label | text |\n|---|---|\n" + "| 1 | so, pale tonight |\n" * 60,
    "a list of JSON before prose": '[{"text": "one"}]\nis how a row looks.\n',
    "a JSON array of numbers": "[[1, 2], [3, 4]]\n",
    "a JSON array of objects and numbers": '[{"text": "one"}, 2]\n',
    "brackets": "[{citation needed}] is what they wrote.\n",
    "a program of dictionaries": "[{'text': one}, {'text': two}]\n",
    "a quotation that does not end": 'a,b,c\n"' + "x,y,z\n" * 60,
    "code": "\n".join(f"\tf(a, b, {i})" for i in range(60)),
}


@pytest.mark.parametrize("name", PROSE)
def test_prose_with_separators_is_read(tmp_path, name):
    from qroar_core.models.text import open_text

    (tmp_path / "a.txt").write_text(PROSE[name])
    assert open_text(tmp_path / "a.txt").text == PROSE[name]


def test_no_embedded_text_is_taken_for_a_table():
    from qroar_core.bundled import ASSETS
    from qroar_core.models.text import open_text

    paths = sorted((ASSETS / "text").rglob("*.txt"))
    assert len(paths) > 20
    for path in paths:
        assert open_text(path).text


def test_a_text_that_only_looks_like_a_table_at_its_start_is_read(capfd, tmp_path):
    from qroar_core.models.text import open_text

    path = tmp_path / "program.txt"
    path.write_text("{ not json }\nbut a text\n")
    assert open_text(path).text == "{ not json }\nbut a text\n"


def test_bos_is_in_the_result_and_its_option_changes_it(capfd, adds_bos):
    auto, on, off = (evaluation(capfd, adds_bos, "--bos", bos) for bos in ("auto", "on", "off"))
    demo = evaluation(capfd, "demo", "--rope", "default")
    assert auto == on
    assert auto["text"].endswith(f", each window starts with {NAME}")
    assert off["text"] == f"{demo['text']}, no window starts with {NAME}, which the tokenizer puts before a text"
    assert off["rows"] == demo["rows"]
    assert off["rows"][0]["nll"] == pytest.approx(3.0635, abs=1e-4)
    assert auto["rows"][0]["nll"] != off["rows"][0]["nll"]


def test_bos_is_refused_where_there_is_none(capfd, tmp_path):
    folder = tmp_path / "none"
    shutil.copytree(DEMO, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["bos_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    line = refused(capfd, "evaluate", folder, *SHORT, "--bos", "on")
    assert line == "--bos on: the tokenizer has no BOS token; drop it, or choose --bos off"
    assert "unknown value 'yes'; choose one of auto, on, off" in refused(capfd, "evaluate", folder, "--bos", "yes")


def test_a_run_remembers_how_its_windows_start(capfd, adds_bos, tmp_path):
    from qroar_core.runs.record import read_record

    small = ("--length", 64, "--k", "int3", "--windows", 2, "--out", tmp_path / "out")
    printed(capfd, "run", adds_bos, *small)
    entry = read_record(tmp_path / "out")
    assert entry.setting.bos
    assert entry.manifest.specs["bos"] is True
    assert "holds a run with another setting (bos)" in refused(capfd, "run", adds_bos, *small, "--bos", "off")
    printed(capfd, "run", adds_bos, *small, "--bos", "on")  # the same windows: resumed


def test_text_and_dataset_are_one_too_many(capfd):
    line = refused(capfd, "evaluate", "demo", "--text", "novels", "--dataset", "a.jsonl:text")
    assert line == "--dataset: --text names the texts too; give one of the two"
