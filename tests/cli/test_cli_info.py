"""`info` of a model whose layers are of several kinds: no wider than the terminal, and nothing of a layer lost."""

import json
import re

import pytest

from qroar_core.__main__ import main
from tests.models.hub_configs import HUB

LAYERS = {  # with so many layers as the real ones have
    "Gemma2": {"num_hidden_layers": 42, "layer_types": ["sliding_attention", "full_attention"] * 21},
    "Gemma3-text4b": {"num_hidden_layers": 34, "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 6},
    "SmolLM3": {"num_hidden_layers": 36, "no_rope_layers": [1, 1, 1, 0] * 9, "layer_types": ["full_attention"] * 36},
}


def shown(capsys, folder, *options):
    capsys.readouterr()
    assert main(["info", str(folder), "--device", "cpu", *options]) == 0
    return capsys.readouterr().out


def numbers(words):
    """`0-4, 6` -> [0, 1, 2, 3, 4, 6]."""
    runs = [[int(end) for end in run.split("-")] for run in words.split(", ")]
    return [number for run in runs for number in range(run[0], run[-1] + 1)]


def rows(out):
    """Each name's value, its lines joined as a reader joins them."""
    found, name = {}, ""
    for line in out.splitlines()[3:]:
        start = re.match(r"  (\w+)  +", line)
        name = start.group(1) if start else name
        if name:
            found[name] = found.get(name, []) + [line[start.end() if start else 0 :].strip()]
    return found


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("columns", [80, 100])
def test_info_of_several_kinds_of_layers_fits_a_terminal(name, columns, hub_folder, capsys, monkeypatch):
    raw = HUB[name] | LAYERS[name]
    raw["layer_types"] = raw["layer_types"][: raw["num_hidden_layers"]]
    folder = hub_folder(raw)
    monkeypatch.setenv("COLUMNS", str(columns))
    out = shown(capsys, folder)
    assert max(map(len, out.splitlines())) <= columns
    assert "('" not in out
    told, values = json.loads(shown(capsys, folder, "--json")), rows(out)
    assert told["n_layers"] == raw["num_hidden_layers"]
    for entry in ("rope_kinds", "thetas", "windows"):
        by_layer = {}
        for part in re.findall(r"(\S+): layers? ([\d, -]+)", "\n".join(values.get(entry, [])).replace(",\n", ", ")):
            by_layer |= dict.fromkeys(numbers(part[1]), part[0])
        assert [by_layer[i] for i in sorted(by_layer)] == ["none" if v is None else str(v) for v in told[entry]]
    unrotated = " ".join(values.get("without_rope", []))
    assert (numbers(unrotated) if unrotated else []) == told["without_rope"]
    for entry in ("family", "theta", "parameters", "fingerprint", "own_rope"):
        assert " ".join(values[entry]) == str(told[entry])


def test_a_name_with_brackets_is_printed_as_it_is(hub_folder, capsys, monkeypatch):
    """rich would take [red] for a colour."""
    folder = hub_folder(HUB["SmolLM2"])
    folder = folder.rename(folder.with_name("a[red]b"))
    monkeypatch.setenv("COLUMNS", "100")
    assert rows(shown(capsys, folder))["name"] == ["a[red]b"]
