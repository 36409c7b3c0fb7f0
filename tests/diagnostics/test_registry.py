"""Every diagnostic is found, and what it says of itself is there: fields of the result, and a page of the menu."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pages.state.headings import HEADINGS
from qroar_core.diagnostics import registry
from qroar_core.diagnostics.result import Diagnosis
from tests.helpers import planted

NO_DIAGNOSTIC = {  # fields that say how, where and of what the diagnostics are
    *(
        "measured",
        "verdict",
        "groups",
        "others",
        "of_one_group",
        "seconds",
        "text",
        "scales_mode",
        "decoder_layers",
        "pairing",
    ),
    *("position_edges", "length", "short_length", "windows", "paired_tokens", "eps"),
    *("rotary_dim", "head_dim", "n_kv_heads"),
}


def test_every_folder_of_diagnostics_is_one_in_the_order_of_the_menu():
    folders = {path.parent.name for path in Path(registry.__file__).parent.glob("*/__init__.py")}
    assert set(registry.diagnostics()) == folders
    shown = [[*HEADINGS].index(one.page) for one in registry.diagnostics().values() if one.page != "Bands"]
    assert shown == sorted(shown)


def test_each_field_of_the_result_is_of_one_diagnostic():
    fields = [field for one in registry.diagnostics().values() for field in one.fields]
    assert len(set(fields)) == len(fields)
    assert {*fields} == {*Diagnosis.model_fields} - NO_DIAGNOSTIC
    assert registry.others() == ()


def test_a_result_that_no_diagnostic_here_reads_is_refused():
    found = planted.diagnosis()
    assert Diagnosis.model_validate(found.model_dump(mode="json")) == found
    with pytest.raises(ValidationError, match="'key_norms' is no diagnostic of this installation"):
        Diagnosis.model_validate(found.model_dump(mode="json") | {"others": {"key_norms": {}}})
