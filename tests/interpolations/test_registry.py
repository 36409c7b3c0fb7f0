"""The registry of position interpolations; tests/test_extending.py adds one to it."""

from qroar_core.interpolations.registry import interpolation_methods, stretching
from qroar_core.interpolations.spec import ROPE_METHODS


def test_the_registry_holds_the_files_in_the_order_of_their_places():
    places = [method.place for method in interpolation_methods().values()]
    assert places == sorted(places)
    assert {"default", "linear", "ntk", "dynamic", "yarn", "longrope", "llama3"} <= set(interpolation_methods())
    assert set(ROPE_METHODS) == set(interpolation_methods())
    assert "default" not in stretching()
    assert len({method.place for method in interpolation_methods().values()}) == len(interpolation_methods())
    assert all(method.label and method.source for method in interpolation_methods().values())
