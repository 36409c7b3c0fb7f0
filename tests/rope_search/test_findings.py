"""What is said of the choices: which differ, what choosing under the quantizer is worth, and when it is not."""

from __future__ import annotations

import pytest

from qroar_core.evidence.controls.result import Estimate
from qroar_core.rope_search import findings
from qroar_core.rope_search.figure import frequencies, gains, table, tried
from qroar_core.specs import RopeSpec
from tests.helpers.planted_rope_search import FULL, SETTING, UNDER, rope_search


def test_a_worth_whose_interval_excludes_zero_is_the_verdict():
    found = rope_search(won=0.05)
    assert found.sentences[0] == (
        "Under the quantizer the search chooses another method: YaRN ×4 (beta_fast 24, attention factor 1.2), still "
        "30–31 instead of NTK-aware (static) ×5. On held-out text, choosing there is worth +0.0500 nats "
        f"[{found.worth.low:+.4f}, {found.worth.high:+.4f}]."
    )
    assert found.worth.above_zero
    assert "gains +0.1500 nats" in found.sentences[1]
    assert "at 256 tokens NLL changes by -0.1500 nats" in found.sentences[1]
    assert "gains +0.1000 nats" in found.sentences[2]
    assert found.rope == UNDER
    assert found.sentences[3] == findings.DECIDED
    assert findings.DECIDED in gains(found).how_to_read
    assert gains(found).title == "Choosing the interpolation under the quantizer is worth +0.0500 nats there"


def test_an_interval_with_zero_is_no_significant_difference():
    found = rope_search(won=0.001)
    assert not found.worth.excludes_zero
    assert found.sentences[0].endswith(": no significant difference.")
    assert gains(found).title == "Choosing the interpolation under the quantizer makes no significant difference there"


def test_a_choice_that_loses_on_held_out_text_is_not_kept():
    found = rope_search(won=-0.2)
    assert found.kept == "setting"
    assert found.rope == SETTING
    assert any("the setup's own is kept" in sentence for sentence in found.sentences)
    assert findings.DECIDED in found.sentences
    assert "no significant difference" not in found.sentences[1]
    same = rope_search(won=-0.1).sentences[1]  # 0.1 less than the 0.1 of the other choice: nothing
    assert "0.0050] (no significant difference) under the quantizer and +0.0600 nats [+0.0600, +0.0600] in" in same


def test_equal_choices_are_said_to_be_one():
    won = Estimate(mean=0.0, low=0.0, high=0.0)
    chosen = {"setting": SETTING, "full precision": FULL, "quantizer": FULL}
    said = findings.sentences(chosen, rope_search().judged, won, None, (1024, 256, 256), 3)
    assert said[0].startswith("Quantization does not change the choice: NTK-aware (static) ×5 is chosen in both")
    assert sum("gains" in sentence for sentence in said) == 1
    assert any("the choice made in both conditions gains" in sentence for sentence in said)
    own = dict.fromkeys(chosen, SETTING)
    said = findings.sentences(own, rope_search().judged, won, None, (128, 64, 256), 3)
    assert "The choice made in both conditions is the setup's own interpolation." in said
    assert said[-1].startswith("128 tokens lie within the native window of 256")
    assert findings.DECIDED not in said  # the setting's own was found: nothing was left to decide
    near = {"setting": SETTING, "full precision": FULL, "quantizer": RopeSpec("ntk", 5.5)}
    said = findings.sentences(near, rope_search().judged, won, won, (1024, 256, 256), 3)
    assert "other numbers of the same method" in said[0]
    assert said[1] == "Counted by documents (3 of them) it is +0.0000 nats [+0.0000, +0.0000]."


def test_figures_hold_the_numbers_of_the_result():
    found = rope_search()
    drawn = gains(found).table
    assert drawn["gain"].tolist() == pytest.approx([0.08, 0.06, 0.1, 0.15])
    speeds = frequencies(found)
    ratio = {trace.name.partition(":")[0]: list(trace.y) for trace in speeds.figure.data}
    assert ratio["chosen in full precision"] == pytest.approx([2 / 3] * 32)
    assert ratio["chosen under the quantizer"] == pytest.approx([1.0] * 30 + [0.0] * 2)
    full, under = tried(found)
    assert full.title == "In full precision NTK-aware (static) ×5 has the least NLL of 8 candidates"
    assert under.title.startswith("Under the quantizer YaRN ×4 (beta_fast 24")
    assert full.table["nll"].tolist() == [9.0, 2.5, 2.4, 2.45, 2.6, 2.61, 2.62, 2.63]
    assert "1 with more than" in full.how_to_read
    assert full.figure.layout.yaxis.range[1] < 9.0
    assert table(found)["ppl"].notna().all()
    assert found.contradictions() is not None
    assert list(found.contradictions()) == []
    assert list(found.model_copy(update={"judged": found.judged[:5]}).contradictions())
