"""Option values that are lists or files: what they mean, and the one line on what is wrong."""

import json

import pytest

from qroar_core.cli.parse import bounds_of, lengths_of, longrope_file
from qroar_core.errors import BadSpec


@pytest.mark.parametrize(
    ("text", "lengths"),
    [(None, ()), ("", ()), ("2", (2,)), ("2048,512", (512, 2048)), ("512, 2048,512", (512, 2048))],
)
def test_lengths_are_ascending_and_each_once(text, lengths):
    assert lengths_of(text) == lengths


@pytest.mark.parametrize("text", ["1", "512,1", "0", "-4", "512;2048", "512,", "a"])
def test_no_list_of_lengths_names_the_option_and_shows_one(text):
    with pytest.raises(BadSpec) as refused:
        lengths_of(text)
    assert str(refused.value) == f"--lengths: not a list of lengths: {text!r}; write for example 512,2048"


def test_bounds_are_pairs_of_low_and_high():
    assert bounds_of(None) is None
    assert bounds_of("-1:2,-0.5:0") == ((-1.0, 2.0), (-0.5, 0.0))


@pytest.mark.parametrize("text", ["1", "-1:2:3", "-1:2,", "a:b"])
def test_no_bounds_name_the_option_and_show_some(text):
    with pytest.raises(BadSpec) as refused:
        bounds_of(text)
    assert str(refused.value) == f"--bounds: not bounds: {text!r}; write one low:high per band, -1:2,-1:2"


def test_factor_lists_come_from_a_file(tmp_path):
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"long_factor": [1, 2.5], "short_factor": [1, 1], "other": "x"}))
    assert longrope_file(str(path)) == {"long_factor": (1.0, 2.5), "short_factor": (1.0, 1.0)}
    assert longrope_file(None) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"short_factor": [1]}', '{"long_factor": 3}', '{"long_factor": ["a"]}'])
def test_a_file_without_factor_lists_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "lists.json"
    path.write_text(content)
    with pytest.raises(BadSpec, match="give a JSON with long_factor, a list of numbers") as refused:
        longrope_file(str(path))
    assert str(refused.value).startswith(f"--longrope-factors {path}: cannot be read")
    assert "\n" not in str(refused.value)
