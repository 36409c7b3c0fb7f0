"""Number fields that are filled from a setting: their default is what is filled, on every page that has them.

A browser that misses the message with a field's value shows the default instead. AppTest reads both as they are sent.
"""

import pytest
from streamlit.testing.v1 import AppTest

from pages.state.choice import Choice, to_address
from qroar_core.specs import BandSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from tests.pages.visitor import clicked, go

FIELDS = {
    "start": {
        "factor": 6.5,
        "native window": 128,
        "beta_fast": 24.0,
        "beta_slow": 2.0,
        "bands": 5,
        "k group": 16,
        "k residual": 7,
        "v step": 0.25,
        "weights group": 64,
    },
    "pressure": {"pressure length": 640, "pressure factor": 6.5},
    "evaluate": {"evaluation windows": 9},
}


@pytest.fixture(scope="module")
def asked():
    """An address in which no number is the least of its field."""
    return to_address(
        Choice(
            model="demo",
            length=640,
            rope=RopeSpec("yarn", 6.5, original_context=128, beta_fast=24.0, beta_slow=2.0),
            quant=QuantSpec(
                k=QuantizerSpec(3, scale="block", group_size=16, residual=7),
                v=QuantizerSpec(4, scale="tensor", static_scale=0.25),
                weights=WeightQuantSpec(4, scale="group", group_size=64),
            ),
            bands=BandSpec(5),
            evaluation=EvaluationSpec(lengths=(256,), windows=9),
        )
    )


@pytest.fixture
def opened(app, asked):
    """A visitor who opens the address and loads the demo."""
    visitor = AppTest.from_file(app._script_path, default_timeout=30)
    visitor.query_params.update(asked)
    visitor.run()
    return clicked(visitor, "Load demo")


@pytest.mark.parametrize("page", FIELDS)
def test_the_default_is_what_is_filled(opened, page):
    go(opened, page)
    fields = {key: opened.number_input(key=key) for key in FIELDS[page]}
    assert {key: field.value for key, field in fields.items()} == FIELDS[page]
    assert {key: field.proto.default for key, field in fields.items()} == FIELDS[page]


def test_what_a_person_types_is_the_next_default(opened):
    opened.number_input(key="factor").set_value(3.0).run()
    opened.run()
    field = opened.number_input(key="factor")
    assert (field.value, field.proto.default) == (3.0, 3.0)
