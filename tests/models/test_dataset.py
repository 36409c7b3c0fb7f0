"""Texts by name: the option taken apart, documents in turn, every refusal one line; read with the real library."""

from __future__ import annotations

import json
import sys

import pytest

from qroar_core.errors import BadSpec, BadText
from qroar_core.models import dataset
from qroar_core.models.dataset import dataset_documents, parse


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    dataset_documents.cache_clear()
    yield
    dataset_documents.cache_clear()


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ("a.jsonl:text", ("a.jsonl", "", "", "text")),
        ("org/name:config:text", ("org/name", "config", "", "text")),
        ("org/name:config:test:text", ("org/name", "config", "test", "text")),
        ("org/name::test:text", ("org/name", "", "test", "text")),
    ],
)
def test_the_option_is_taken_apart(asked, parts):
    got = parse(asked)
    assert (got.name, got.config, got.split, got.field) == parts


@pytest.mark.parametrize("asked", ["a.jsonl", ":text", "a:", "a:b:c:d:e", ""])
def test_what_names_no_field_is_refused(asked):
    with pytest.raises(BadSpec, match=r"--dataset: .* is not NAME\[:CONFIG\[:SPLIT\]\]:FIELD; write for example"):
        parse(asked)


def test_without_the_library_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadSpec) as error:
        dataset_documents("a.jsonl:text")
    assert str(error.value) == "--dataset: the datasets library is not installed; pip install datasets"


class Rows:
    """A stand-in for the library: one split a name, rows as given."""

    def __init__(self, monkeypatch, **splits):
        monkeypatch.setattr(dataset, "_rows", lambda what: splits["train"])


def rows(*texts):
    return [{"text": text, "n": 1} for text in texts]


def test_documents_take_turns_and_no_two_parts_share_a_text(monkeypatch):
    Rows(monkeypatch, train=rows(*(f"text {i % 12}" for i in range(20))))
    parts = dataset_documents("x:text").parts
    texts = {name: [d.text for d in found] for name, found in parts.items()}
    assert texts == {
        "heldout": ["text 0", "text 3", "text 7", "text 8", "text 11"],
        "calibration": ["text 1", "text 4", "text 6", "text 9"],
        "development": ["text 2", "text 5", "text 10"],
    }


def test_one_or_two_documents_are_cut_in_three(monkeypatch):
    Rows(monkeypatch, train=rows("a" * 80, "", "b" * 160, None))
    parts = dataset_documents("x:text").parts
    assert {n: [d.text for d in found] for n, found in parts.items()} == {
        "calibration": ["a" * 30, "b" * 60],
        "development": ["a" * 20, "b" * 40],
        "heldout": ["a" * 30, "b" * 60],
    }


def test_rows_are_read_until_there_is_enough_and_the_label_says_how_many(monkeypatch):
    monkeypatch.setattr(dataset, "MOST", 100)
    Rows(monkeypatch, train=rows(*(f"{i}" * 10 for i in range(1000, 2000))))
    found = dataset_documents("x:text")
    assert sum(map(len, found.parts.values())) == 3
    assert found.label.startswith("dataset x:text (first 3 rows, sha256 ")
    dataset_documents.cache_clear()
    Rows(monkeypatch, train=rows("y" * 10, "z" * 10))
    other = dataset_documents("x:text")
    assert other.label.startswith("dataset x:text (2 rows, sha256 ")
    assert other.label[-9:] != found.label[-9:]


def test_line_ends_are_read_as_lf_and_noted(monkeypatch):
    Rows(monkeypatch, train=rows("a\r\nb", "c\rd", "e"))
    documents = [d for found in dataset_documents("x:text").parts.values() for d in found]
    assert sorted(d.text for d in documents) == ["a\nb", "c\nd", "e"]
    assert {d.note for d in documents} == {"line ends other than LF read as LF"}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("body", "no field 'body'; choose one of text, blank"),
        ("n", "the field 'n' of row 1 holds int, not text; choose one of text, blank"),
        ("blank", "the field 'blank' holds no text; name another field"),
    ],
)
def test_a_field_without_text_is_refused(monkeypatch, field, message):
    Rows(monkeypatch, train=[{"text": "a", "n": 1, "blank": ""}])
    with pytest.raises((BadSpec, BadText)) as error:
        dataset_documents(f"x:{field}")
    assert str(error.value) == f"x: {message}"


LINES = [{"text": f"Document {i}.\nIts second line.", "n": i} for i in range(10)]
WANTED = {"heldout": [0, 3, 7, 8], "calibration": [1, 4, 6, 9], "development": [2, 5]}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "folder"])
def test_the_real_library_reads_local_tables(tmp_path, kind):
    pytest.importorskip("datasets")
    path = tmp_path / f"table.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in LINES))
    elif kind in ("csv", "tsv"):
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "n"], delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(LINES)
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(LINES), path)
    else:
        path = tmp_path / "folder"
        path.mkdir()
        (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LINES))
        (path / "test.jsonl").write_text(json.dumps({"text": "another", "n": 0}) + "\n")
        with pytest.raises(BadSpec, match="it has the splits train, test; name one: --dataset"):
            dataset_documents(f"{path}:text")
        with pytest.raises(BadSpec, match="no split 'dev'; choose one of train, test"):
            dataset_documents(f"{path}::dev:text")
    asked = f"{path}::train:text" if kind == "folder" else f"{path}:text"
    found = dataset_documents(asked)
    assert {n: [d.text for d in ds] for n, ds in found.parts.items()} == {
        name: [LINES[i]["text"] for i in picked] for name, picked in WANTED.items()
    }
    assert found.label.startswith(f"dataset {asked} (10 rows, sha256 ")


def test_what_the_real_library_cannot_read_is_one_line(tmp_path):
    pytest.importorskip("datasets")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a"}\n{"text": \n')
    for asked in (f"{broken}:text", f"{tmp_path / 'none'}:text"):
        with pytest.raises(BadText, match="cannot be read") as error:
            dataset_documents(asked)
        assert "\n" not in str(error.value)
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(BadSpec, match=r"no reader for a \.doc file; give one of \.jsonl"):
        dataset_documents(f"{tmp_path / 'a.doc'}:text")


@pytest.mark.parametrize("place", ["a:b", "a:b:c:d", "b::x", "c:"])
def test_a_name_with_colons_that_lies_here_is_a_name(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir()
    path = folder / "x:y.jsonl"
    path.write_text("")
    for asked, rest in ((":text", ("", "", "text")), (":c:text", ("c", "", "text")), ("::s:text", ("", "s", "text"))):
        for name in (str(path), str(folder)):
            got = parse(f"{name}{asked}")
            assert (got.name, got.config, got.split, got.field) == (name, *rest)
    with pytest.raises(BadSpec, match="is not NAME"):
        parse(f"{path}:a:b:c:d")
    with pytest.raises(BadSpec) as error:
        parse(f"{folder}/none.jsonl:text")
    assert str(error.value) == f"{folder}/none.jsonl: no such file or folder; check the path"


def test_a_file_with_a_colon_in_its_folder_is_read_by_the_real_library(tmp_path):
    pytest.importorskip("datasets")
    path = tmp_path / "a:b" / "x.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in LINES))
    assert [d.text for d in dataset_documents(f"{path}:text").parts["development"]] == [
        LINES[i]["text"] for i in (2, 5)
    ]


@pytest.mark.parametrize(("more", "instead"), [("junk", ""), ("junk:train", "::train")])
def test_a_config_of_a_file_is_refused(tmp_path, more, instead):
    pytest.importorskip("datasets")
    path = tmp_path / "ok.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LINES))
    with pytest.raises(BadSpec) as error:
        dataset_documents(f"{path}:{more}:text")
    what = "a file has no config, 'junk' means nothing for it"
    assert str(error.value) == f"{path}: {what}; write --dataset {path}{instead}:text"
    assert dataset_documents(f"{path}{instead}:text").label.startswith(f"dataset {path}{instead}:text (10 rows")


def test_a_field_that_is_text_in_some_rows_alone_is_refused_with_the_row(monkeypatch):
    Rows(monkeypatch, train=[{"text": "a"}, {"text": 5}])
    with pytest.raises(BadSpec, match=r"^x: the field 'text' of row 2 holds int, not text; make it text in every row$"):
        dataset_documents("x:text")


def test_the_real_library_says_nothing_beside_the_one_line(tmp_path, capfd):
    pytest.importorskip("datasets")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(BadText, match=r"empty\.jsonl: it holds no rows; give a dataset with text in it$"):
        dataset_documents(f"{tmp_path / 'empty.jsonl'}:text")
    with pytest.raises(BadText, match=r"; check the file, or the config$"):
        dataset_documents(f"{tmp_path / 'broken.jsonl'}:text")
    assert capfd.readouterr() == ("", "")
