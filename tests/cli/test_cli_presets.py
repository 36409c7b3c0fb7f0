"""`presets`, and what an unknown name of a cache is answered with."""

import json

import pytest

from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS
from tests.cli.command import printed, refused


def test_every_name_is_listed_with_its_option_and_memory(capfd):
    lines = printed(capfd, "presets").splitlines()[1:]
    assert [line.split()[0] for line in lines] == [*KV_PRESETS, *WEIGHT_PRESETS]
    said = {line.split()[0]: line.split()[1:4] for line in lines}
    assert said["q4_0"] == ["--kv", "144", "blocks"]  # 2 x 128 numbers in blocks of 32: 16 bytes and a float16 step
    assert said["fp8"][:2] == ["--kv", "256"]
    assert said["w4a16"][0] == "--weights"
    rows = {row["name"]: row for row in json.loads(printed(capfd, "presets", "--json"))}
    assert rows["fp8"]["asked_for_by"].startswith("vLLM --kv-cache-dtype fp8")


@pytest.mark.parametrize(
    ("name", "do"),
    [
        ("w4a16", "it is a format of weights: --weights w4a16"),
        ("q4_o", "did you mean q4_1, q4_0 or iq4_nl? `qroar presets` lists all"),
        ("fp8-calib", "did you mean fp8-calibrated? `qroar presets` lists all"),
        ("int9", "choose int2 to int8, or a runtime's cache: `qroar presets` lists all"),
        ("zzz", "choose none, int2 to int8, or a runtime's cache: `qroar presets` lists all"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(capfd, name, do):
    assert refused(capfd, "evaluate", "demo", "--kv", name) == f"--kv: unknown cache quantizer {name!r}; {do}"
