"""The file of a sweep: what its lists multiply to, and one line for whatever is not known."""

import pytest

from qroar_core.errors import BadSpec
from qroar_core.sweeps.sweep_file import Budget, read_sweep, sweep_of

LEAST = {"models": ["demo"], "ropes": [{"method": "yarn", "factor": 4}], "quantizers": [{"k": "int4"}]}
ALL = """
models: [demo]
ropes: [{method: yarn, factor: [2, 4]}, {method: default}]
quantizers: [{k: int4}, {kv: q4_0}]
remedies: [none, scales+angles, rotation]
lengths: [256, 1024]
texts: [technical]
seeds: [0, 7]
windows: 4
exclude:
  - {quantizer: {kv: q4_0}, remedy: [rotation, scales+angles]}
  - {rope: {method: default}, length: 1024}
budget: {minutes: 30, cells: 5}
"""


def test_lists_are_multiplied_and_exclusions_taken_out(tmp_path):
    (tmp_path / "sweep.yaml").write_text(ALL)
    found = read_sweep(tmp_path / "sweep.yaml")
    every = [
        (method, factor, length, quantizer, remedy, seed)
        for method, factor in (("yarn", 2), ("yarn", 4), ("default", 1.0))
        for length in (256, 1024)
        for quantizer in ({"k": "int4"}, {"kv": "q4_0"})
        for remedy in ("none", "scales+angles", "rotation")
        for seed in (0, 7)
        if not ("kv" in quantizer and remedy != "none") and not (method == "default" and length == 1024)
    ]
    made = [
        (c.rope["method"], c.rope["factor"], c.length, c.quantizer, c.remedy, c.seed)
        for c in found.cells
        if (c.model, c.text, c.windows) == ("demo", "technical", 4)
    ]
    assert made == every
    assert (len(found.cells), found.excluded, found.budget) == (40, 32, Budget(30, 5))


def test_what_is_left_out_is_what_a_command_has(tmp_path):
    (cell,) = sweep_of(LEAST, "here").cells
    assert (cell.remedy, cell.length, cell.text, cell.seed, cell.windows) == ("none", None, "messages", 0, None)
    setup = cell.setup
    assert (setup.rope.method, setup.rope.factor, setup.quantization.k.bits) == ("yarn", 4.0, 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantisers": []}, "s.yaml: unknown key 'quantisers'; choose from models, ropes, "),
        ({"models": []}, "s.yaml, models: must be a list of at least one, got []"),
        ({"models": "demo"}, "s.yaml, models: must be a list of at least one, got 'demo'"),
        ({"models": [3]}, "s.yaml, models[0]: must be a model, got 3"),
        ({"ropes": ["yarn"]}, "s.yaml, ropes[0]: must be a table, got 'yarn'; write {method: yarn, factor: 4}"),
        ({"ropes": [{"method": "yarm", "factor": 4}]}, "s.yaml, ropes[0]: unknown rope method 'yarm'"),
        ({"ropes": [{"method": "yarn", "fcator": 4}]}, "s.yaml, ropes[0]: unknown key 'fcator'; choose from method"),
        ({"ropes": [{"method": "yarn"}]}, "s.yaml, ropes[0]: it has no factor"),
        ({"ropes": [{"method": "linear", "factor": 2, "beta_fast": 3}]}, "s.yaml, ropes[0]: linear takes no beta_fast"),
        ({"ropes": [{"method": "yarn", "factor": [4, True]}]}, "s.yaml, ropes[0]: factor"),
        ({"quantizers": [{"k": "int9"}]}, "s.yaml, quantizers[0]: unknown cache quantizer 'int9'; choose int2 to int8"),
        ({"quantizers": [{"K": "int4"}]}, "s.yaml, quantizers[0]: unknown key 'K'; choose from k, v, kv"),
        ({"quantizers": [{"k": "int4", "kv_rotation": "no"}]}, "s.yaml, quantizers[0]: kv_rotation must be true or"),
        ({"quantizers": [{"k": "int4"}, {"k": "int4"}]}, "s.yaml, quantizers: {'k': 'int4'} is there twice"),
        ({"remedies": ["scale"]}, "s.yaml, remedies[0]: unknown remedy 'scale'; choose from none, scales, "),
        ({"lengths": [4]}, "s.yaml, lengths[0]: it must be at least 8"),
        ({"lengths": ["1k"]}, "s.yaml, lengths[0]: it must be a whole number, got '1k'"),
        ({"texts": ["nowhere.txt"]}, "s.yaml, texts[0]: No such file or directory; choose messages"),
        ({"seeds": [-1]}, "s.yaml, seeds[0]: it must be at least 0"),
        ({"windows": 1}, "s.yaml, windows: windows must be at least 2"),
        ({"exclude": [{"remedies": "none"}]}, "s.yaml, exclude[0]: unknown key 'remedies'; choose from model, rope"),
        ({"exclude": [{"remedy": "rotation"}]}, "s.yaml, exclude[0]: matches no cell"),
        ({"exclude": [{"remedy": "none"}]}, "s.yaml, exclude: nothing is left after the exclusions"),
        ({"budget": {"hours": 1}}, "s.yaml, budget: unknown key 'hours'; choose from minutes, cells"),
        ({"budget": {"minutes": -1}}, "s.yaml, budget: minutes must be at least 0"),
        ({"seeds": list(range(400)), "lengths": list(range(8, 308))}, "s.yaml: 120,000 cells; ask for at most"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(change, said):
    with pytest.raises(BadSpec) as refused:
        sweep_of(LEAST | change, "s.yaml")
    assert str(refused.value).startswith(said)
    assert "; " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [demo", "is no YAML at line 1"),
        ("- demo", "is no table of lists"),
        ("", "is no table of lists"),
        ("models: [!!python/object/apply:os.getcwd []]", "is no YAML at line 1"),
        ("models: [demo]", "has no ropes"),
    ],
)
def test_what_is_no_sweep_names_the_file(tmp_path, text, said):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(BadSpec) as refused:
        read_sweep(path)
    assert str(refused.value).startswith(f"{path}: {said}")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadSpec, match=r"none\.yaml: cannot be read"):
        read_sweep(tmp_path / "none.yaml")
