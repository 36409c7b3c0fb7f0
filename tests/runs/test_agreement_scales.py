"""Scales, bounds, texts and names of a run that cannot be of its search: refused in one line; a whole run opens."""

import json
from dataclasses import replace

import pytest

from qroar_core.quantizers.presets import preset_names, preset_quant
from qroar_core.runs.agreement_scales import bounds_against, documents_against, name_against
from qroar_core.runs.record import read_record
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, SearchSpec
from tests.helpers import planted
from tests.runs.kept import keep_all

INT4 = QuantSpec(k=QuantizerSpec(4))


@pytest.fixture
def folder(root, loaded, setting):
    keep_all(loaded, setting, "identity")  # a kept identity: the search's scales stand beside no other file
    (made,) = root.iterdir()
    assert read_record(made).problem == ""
    return made


def edited(file, edit):
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_scales_of_the_search_and_of_mad_clipping_do_not_change_places(folder):
    found, mad = folder / "scales_found.json", folder / "scales_mad.json"
    one, other = found.read_text(), mad.read_text()
    found.write_text(other)
    mad.write_text(one)
    assert "MAD clipping leaves every scale at 1 or above it" in read_record(folder).problem


def test_a_scale_beyond_the_bounds_of_its_search_is_refused(folder):
    def narrow(content):
        content["bounds"] = [[[-0.01, 0.01] for _ in bands] for bands in content["bounds"]]

    edited(folder / "search.json", narrow)
    said = read_record(folder).problem
    assert "scales_found.json: g: log2" in said
    assert "search.json bounds it by -0.01 and 0.01" in said


def test_bounds_are_those_that_the_manifest_allows():
    report = planted.report()
    furthest = max(-low for bands in report.bounds for low, _ in bands)
    assert list(bounds_against(report, SearchSpec(max_log2_scale=furthest))) == []
    (said,) = bounds_against(report, SearchSpec(max_log2_scale=furthest / 2))
    assert f"its manifest allows {furthest / 2:g}" in said
    by_hand, bands = tuple(tuple(ends) for ends in report.bounds[0]), BandSpec(len(report.bounds[0]))
    assert list(bounds_against(report, SearchSpec(bands=bands, bounds=by_hand))) == []
    other = SearchSpec(bands=bands, bounds=tuple((low / 2, high / 2) for low, high in by_hand))
    assert list(bounds_against(report, other)) == ["bounds: others than those set by hand in its manifest"]


def test_documents_of_another_collection_are_refused():
    assert list(documents_against(["1837-VanBuren-1.txt", "1927-Coolidge-1.txt"], "messages")) == []
    (said,) = documents_against(["1837-VanBuren-1.txt"], "novels")
    assert said == "documents: 1837-VanBuren-1.txt is of the text messages, but the manifest has novels"
    assert list(documents_against(["a document of an older version"], "novels")) == []
    assert list(documents_against(["1837-VanBuren-1.txt"], "my own file, SHA-256 0123")) == []


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8 K cache"])
def test_a_name_that_says_another_number_format_is_refused(name):
    (said,) = name_against(replace(INT4, name=name))
    assert said == f"quant.name: {name!r}, its quantizer has 4 bits"


@pytest.mark.parametrize("name", preset_names())
def test_every_presets_name_fits_its_quantizer(name):
    assert list(name_against(preset_quant(name))) == []
    assert list(name_against(replace(INT4, name="int4 K cache"))) == []
    assert list(name_against(replace(INT4, name="my quantizer"))) == []
    assert list(name_against(QuantSpec(name="fp16"))) == []
