"""Tied pairs: their text, their frequencies and slopes against loops of plain floats, and everything that asks them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from pages.state.choice import Choice, from_address, to_address
from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.band_labels import span
from qroar_core.diagnostics.band_table import band_table, to_csv
from qroar_core.diagnostics.pressure.figure import by_pair
from qroar_core.diagnostics.pressure.figure_methods import by_pair as by_pair_of_methods
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadSpec, NonFinite
from qroar_core.interpolations.frequencies import interpolation_of, layer_group_ropes, rope_of, ropes_of
from qroar_core.interpolations.pressure import frequency_slope
from qroar_core.interpolations.pressure_of_methods import pressures
from qroar_core.interpolations.rope_without_model import plain_rope
from qroar_core.interpolations.spec import rope_of_block
from qroar_core.interpolations.tie import Tie, parse_ties, ties_text, ties_words, wavelength_of
from qroar_core.models.stream import Condition
from qroar_core.models.window_losses import hidden_states
from qroar_core.runs.stage_files import file_of, plain
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, ReplicationSpec, RopeSpec
from qroar_core.specs.labels import rope_words
from qroar_core.specs.written import written
from qroar_core.transforms.file import rope_from
from tests.models.families_table import CASES, loaded_of
from tests.models.small_specs import SMALL, TEXT

TIES = (Tie(2, 3), Tie(4, 5, 0.5), Tie(6, 7, 0.0))
YARN = RopeSpec("yarn", 4.0, tie=TIES)
INT4 = QuantSpec(k=QuantizerSpec(4))
LISTS = {"long_factor": tuple(1 + 0.4 * i for i in range(8)), "short_factor": tuple(1 + 0.1 * i for i in range(8))}
ROPES = (
    *(RopeSpec(method, 4.0) for method in ("linear", "ntk", "dynamic", "yarn", "llama3")),
    *(RopeSpec("longrope", 4.0, **LISTS), RopeSpec()),
)
by_method = pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope.method)
TEXTS = {
    "20-21,22-25,26-31": (Tie(20, 21), Tie(22, 25), Tie(26, 31)),
    "20-21,26-31:0": (Tie(20, 21), Tie(26, 31, 0.0)),
    "0-3:0.85,31-31:0": (Tie(0, 3, 0.85), Tie(31, 31, 0.0)),
    "4-6:0.1234567890123": (Tie(4, 6, 0.1234567890123),),
    "": (),
}


def by_hand(frequencies, ties=TIES):
    """Each group at its turn times the geometric mean, in plain floats."""
    found = [float(w) for w in frequencies]
    for tie in ties:
        here = range(tie.first, tie.last + 1)
        mean = math.prod(found[i] for i in here) ** (1 / len(here))
        for i in here:
            found[i] = tie.turn * mean
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_groups_are_written_and_read_back(text):
    assert parse_ties(text) == TEXTS[text]
    assert ties_text(TEXTS[text]) == text


def test_still_is_another_word_for_a_turn_of_zero():
    assert parse_ties(" 20-21:1.0, 26-31:still ") == (Tie(20, 21), Tie(26, 31, 0.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20", "'20' is no group of tied pairs"),
        ("20-", "'20-' is no group"),
        ("20-21:fast", "is no group"),
        ("20-21,,22-23", "'' is no group"),
        ("-1-3", "'-1-3' is no group"),
        ("21-20", "pairs 21-20 are no group"),
        ("20-22,22-25", "20-22 and 22-25 overlap or do not ascend"),
        ("22-25,20-21", "22-25 and 20-21 overlap or do not ascend"),
        ("20-21:-1", "must be 0 or more and finite, got -1.0"),
        ("20-21:nan", "must be 0 or more and finite, got nan"),
        ("20-21:inf", "must be 0 or more and finite, got inf"),
        ("31-31", "pair 31 alone has nothing to be tied to"),
    ],
)
def test_what_is_no_tie_is_refused_in_one_line(text, said):
    with pytest.raises(BadSpec, match=said) as refused:
        parse_ties(text)
    assert "\n" not in str(refused.value)


def test_a_spec_refuses_groups_that_overlap_and_pairs_that_are_no_numbers():
    with pytest.raises(BadSpec, match="overlap"):
        RopeSpec(tie=(Tie(0, 3), Tie(3, 4)))
    with pytest.raises(BadSpec, match="whole numbers"):
        Tie(1.5, 3)  # type: ignore[arg-type]


def test_words():
    tie = parse_ties("20-21,22-25:0.9,26-31:0")
    assert rope_words(RopeSpec("yarn", 2.0, tie=tie)) == "YaRN ×2, tied 20–21, 22–25 ×0.9, still 26–31"
    assert rope_words(RopeSpec(tie=(Tie(31, 31, 0.0),))) == "own RoPE, still 31"
    assert ties_words(()) == ""
    assert repr(RopeSpec("yarn", 2.0, tie=(Tie(2, 3),))) == (
        "qroar.Rope(method='yarn', factor=2.0, tie=qroar.ties('2-3'))"
    )


def test_a_pair_that_the_model_lacks_is_refused_with_what_it_has(tiny):
    with pytest.raises(BadSpec, match=r"pairs 6-8 are tied, this model has 8 RoPE pairs.*from 0 to 7"):
        rope_of(tiny(), RopeSpec(tie=(Tie(6, 8),)), 64)


@by_method
def test_frequencies_are_the_methods_own_then_tied(tiny, rope):
    loaded = tiny()
    for length in (64, 256):  # dynamic NTK and LongRoPE go by it
        alone, found = rope_of(loaded, rope, length), rope_of(loaded, replace(rope, tie=TIES), length)
        assert found.inv_freq.tolist() == pytest.approx(by_hand(alone.inv_freq), rel=1e-7, abs=0)
        assert torch.equal(found.untied, alone.inv_freq)
        assert found.attention_factor == alone.attention_factor
        assert found.inv_freq.dtype == torch.float32
        assert found.inv_freq[6:].tolist() == [0.0, 0.0]
        assert torch.equal(found.inv_freq[:2], alone.inv_freq[:2])


def test_the_model_runs_with_them(tiny, ids):
    """Against transformers' own module with its frequencies set by hand."""
    loaded, read = tiny(dtype=torch.float64), ids(1, 48)
    got = hidden_states(loaded, Condition(YARN), read, 48)
    alone = rope_of(loaded, RopeSpec("yarn", 4.0), 48)
    rotary = loaded.model.model.rotary_emb
    rotary.inv_freq, rotary.attention_scaling = torch.tensor(by_hand(alone.inv_freq)).float(), alone.attention_factor
    with torch.no_grad():
        expected = loaded.model.model(read).last_hidden_state[:, :-1]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_layers_that_no_interpolation_changes_keep_their_frequencies(byte_tokenizer, tokenizer_folder):
    loaded = loaded_of(CASES["gemma3"], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    for rope in (RopeSpec("linear", 2.0), RopeSpec()):
        plain_ropes, found = (ropes_of(loaded, spec, 64) for spec in (rope, replace(rope, tie=(Tie(0, 2),))))
        whole, sliding = found
        assert found[whole].inv_freq[:3].tolist() == pytest.approx(
            by_hand(plain_ropes[whole].inv_freq, (Tie(0, 2),))[:3], rel=1e-7
        )
        assert torch.equal(found[sliding].inv_freq, plain_ropes[sliding].inv_freq)
        groups = layer_group_ropes(loaded, replace(rope, tie=(Tie(0, 2),)), 64)
        assert [bool(group.at.spec.tie) for group in groups] == [group.group.interpolated for group in groups]


STEP = 1e-2  # in ln s


@pytest.mark.parametrize("method", ["linear", "ntk", "dynamic", "yarn", "llama3"])
def test_slope_is_the_finite_difference_of_the_tied_frequencies(demo, method):
    ties, length = (Tie(10, 13), Tie(14, 19, 0.7), Tie(25, 31, 0.0)), 1024
    up, down = (
        torch.tensor(by_hand(rope_of(demo, RopeSpec(method, 4.0 * math.exp(step)), length).inv_freq, ties)).double()
        for step in (STEP, -STEP)
    )
    slope = frequency_slope(interpolation_of(demo, RopeSpec(method, 4.0, tie=ties), length))
    expected = (up - down) / (2 * STEP)
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=2e-5 * float(expected.abs().max()))
    assert slope[25:].tolist() == [0.0] * 7
    assert len(set(slope[10:14].tolist())) == 1
    assert float(slope[12]) < 0


def test_a_checkpoints_own_interpolation_moves_with_its_ties(tiny):
    block = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
    own = interpolation_of(tiny(rope_parameters=block), RopeSpec(tie=TIES), 64)
    asked = interpolation_of(tiny(), RopeSpec("linear", 4.0, tie=TIES), 64)
    torch.testing.assert_close(frequency_slope(own), frequency_slope(asked), rtol=1e-6, atol=0)
    assert own.spec.tie == TIES


def test_every_method_is_compared_under_the_settings_ties(tiny):
    loaded = tiny()
    found = pressures(loaded, YARN, 4.0, 256, "causal", BandSpec(4))
    for shown in found.methods:
        assert shown.inv_freq[6:] == [0.0, 0.0]
        assert shown.pressure[6:] == [0.0, 0.0]
        assert shown.displacement[6:] == pytest.approx([w * found.mean_distance for w in found.native_inv_freq[6:]])
        assert shown.inv_freq[2] == shown.inv_freq[3]
    assert math.inf in set(by_pair_of_methods(found).table["interpolated_wavelength_tokens"])


def test_a_diagnosis_of_tied_pairs_is_read_again_and_drawn(tiny, tmp_path):
    found = diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=replace(SMALL, bands=BandSpec(4))), TEXT)
    file = tmp_path / "diagnosis.json"
    file.write_text(found.to_json())
    again = Diagnosis.from_file(file)
    assert again.bands == found.as_written().bands
    still, tied = again.bands[3], again.bands[1]
    assert (still.wavelength_min, still.wavelength_max) == (math.inf, math.inf)
    assert tied.wavelength_min == tied.wavelength_max
    assert still.unseen_phase == still.compression == still.interpolation_pressure == 0
    assert still.phase_displacement > 0
    rows = band_table(again)
    assert span(rows[3].wavelength_min_tokens, rows[3].wavelength_max_tokens) == "∞-∞"
    lines = [dict(zip(line_of(to_csv(rows), 0), line_of(to_csv(rows), 4)))]
    assert lines[0]["wavelength_max_tokens"] == "inf"
    assert list(by_pair(again).table["interpolated_wavelength_tokens"])[6:] == [math.inf, math.inf]


def line_of(csv, at):
    return csv.splitlines()[at].split(",")


def test_wavelength():
    assert wavelength_of(2 * math.pi / 12) == pytest.approx(12)
    assert wavelength_of(0.0) == math.inf


def test_a_head_of_three_numbers_takes_them():
    alone = plain_rope(10_000.0, 16, 64, RopeSpec("yarn", 4.0), 256)
    assert plain_rope(10_000.0, 16, 64, YARN, 256).inv_freq.tolist() == pytest.approx(by_hand(alone.inv_freq), rel=1e-7)


def test_a_link_keeps_them():
    address = to_address(Choice(rope=YARN))
    assert json.loads(address["rope"])["tie"] == [
        {"first": 2, "last": 3},
        {"first": 4, "last": 5, "turn": 0.5},
        {"first": 6, "last": 7, "turn": 0.0},
    ]
    assert from_address(address).rope == YARN


@pytest.mark.parametrize("tie", ['[{"first":3,"last":2}]', '[{"first":0}]', '"20-21"', '[{"first":1,"last":1}]'])
def test_a_link_with_impossible_ones_is_dropped(tie):
    assert from_address({"rope": f'{{"method":"yarn","factor":2.0,"tie":{tie}}}'}).rope is None


def test_a_files_block_is_read_back():
    block = json.loads(json.dumps(written(YARN)))
    assert rope_from(block) == rope_of_block(block) == YARN
    old = {name: value for name, value in block.items() if name != "tie"}
    assert rope_from(old) == RopeSpec("yarn", 4.0)


def test_settings_without_ties_have_the_keys_that_they_always_had():
    """As printed by the version before there were ties (cb0b4c4)."""
    rope = RopeSpec("yarn", 2.0)
    assert plain(rope) == (
        '{"beta_fast": 32.0, "beta_slow": 1.0, "factor": 2.0, "high_freq_factor": 4.0, "long_factor": null, '
        '"low_freq_factor": 1.0, "method": "yarn", "original_context": null, "short_factor": null}'
    )
    asked = ("replicate", *"abcd", rope, ReplicationSpec(windows=4), ((rope, INT4), (RopeSpec("linear", 2.0), INT4)))
    assert file_of(asked) == "replicate-62925308.json"
    assert "tie" not in Setting(rope, INT4).as_dict()["rope"]
    assert to_address(Choice(rope=rope)) == {"rope": '{"method":"yarn","factor":2.0}'}


def test_ties_make_another_setting():
    tied = replace(RopeSpec("yarn", 2.0), tie=TIES)
    asked = ("replicate", *"abcd", tied, ReplicationSpec(windows=4), ((tied, INT4), (RopeSpec("linear", 2.0), INT4)))
    assert file_of(asked) != "replicate-62925308.json"
    assert plain(tied) != plain(RopeSpec("yarn", 2.0))


def test_a_group_too_fast_for_any_number_is_refused(tiny):
    with pytest.raises(NonFinite, match="frequency of RoPE pair 2"):
        rope_of(tiny(), RopeSpec(tie=(Tie(2, 3, 1e300),)), 64)
