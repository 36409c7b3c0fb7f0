"""A search under a cache of blocks counts what the runtime's queries read, and says it."""

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import BadSpec
from qroar_core.evidence.replication.measure import ReplicationSetting, measure_claims
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.models.capture import FIRST_ROW
from qroar_core.models.stream import Condition
from qroar_core.remedies import run as compare
from qroar_core.scale_search import manual_scales as probing
from qroar_core.scale_search import run as search
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import (
    BandSpec,
    ComparisonSpec,
    DiagnosisSpec,
    QuantizerSpec,
    QuantSpec,
    ReplicationSpec,
    RopeSpec,
    WeightQuantSpec,
)
from qroar_core.transforms.scales import identity
from tests.diagnostics.token_by_token import noise_and_kl, per_token, reads, taken
from tests.scale_search.searching import TEXTS, asked, plant

ROPE = RopeSpec("yarn", 2.0)
SAID = "; the cache holds keys of the newest 1 to {} tokens exactly and older ones rounded"
WEIGHTS = WeightQuantSpec(4, "tensor")


def in_blocks(tokens, bits=3, **more):
    return QuantSpec(k=QuantizerSpec(bits, residual=tokens), **more)


@pytest.mark.parametrize("residual", [24, 40])
def test_the_error_of_no_scales_is_that_of_the_cache_run_token_by_token(tiny, monkeypatch, residual):
    """KL of the attention rows at every row that the search samples."""
    monkeypatch.setattr(probing, "BUDGET", float("inf"))
    loaded, quant = tiny(dtype=torch.float64), in_blocks(residual)
    problem = SearchProblem(loaded, ROPE, quant, asked(), TEXTS)
    objective = search.probe(loaded, Setting(ROPE, quant, search=asked()), TEXTS).objective
    for w, ids in enumerate(problem.windows("calibration", 64, 2)):
        rows = objective.capture.windows[w][0].rows.tolist()
        assert min(rows) >= max(residual, FIRST_ROW)  # earlier ones read no key rounded
        for layer, (q, k, scaling) in enumerate(taken(loaded, Condition(ROPE), ids, 64)):
            seen = reads(k, residual, per_token(3), rows)
            for at, row in enumerate(rows):
                _, kl = noise_and_kl(q[:, row], k[:, : row + 1], q[:, row], seen[row], scaling)
                found = float(objective.identity[w, layer, :, at].sum()) / loaded.geometry.n_heads
                assert found == pytest.approx(kl, rel=1e-4, abs=1e-9), (layer, row)


def test_the_planted_band_is_found_behind_a_tail(tiny):
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    out = search.run(loaded, Setting(ROPE, in_blocks(48, 4), search=asked()), TEXTS)
    assert out.report.objective_found < 0.85
    assert out.report.objective_identity == 1.0
    assert out.report.text.endswith(
        "while a prompt is read too (KIVI and transformers read the whole prompt exactly and round it then)"
    )
    assert SAID.format(48) in out.report.text
    assert (
        "the cache holds"
        not in search.run(loaded, Setting(ROPE, QuantSpec(k=QuantizerSpec(4)), search=asked()), TEXTS).report.text
    )


@pytest.mark.parametrize("objective", ["cached", "full", "kl"])
def test_where_every_query_reads_all_keys_exactly_nothing_is_searched(tiny, objective):
    def silent(step):
        raise AssertionError(f"worked: {step}")

    out = search.run(tiny(), Setting(ROPE, in_blocks(64), search=asked(objective=objective)), {}, on_step=silent)
    assert (out.report.verdict.acts, out.report.chosen, out.report.trials) == ("no", "identity", 0)
    assert out.report.verdict.reason == (
        "Scales can repair nothing here: in 64 tokens every query reads all keys exactly, for the cache rounds blocks "
        "of 64 tokens and each once its last query has read it."
    )


def test_one_token_more_or_another_quantizer_leaves_something_to_repair(tiny):
    loaded = tiny()
    verdicts = {
        name: SearchProblem(loaded, ROPE, quant, asked(length=length), {}).verdict
        for name, quant, length in (
            ("longer", in_blocks(64), 65),
            ("q and k", in_blocks(64, qk=QuantizerSpec(8)), 64),
            ("weights", in_blocks(64, weights=WEIGHTS), 64),
            ("weights by row", in_blocks(64, weights=WeightQuantSpec(4)), 64),
            ("channels", QuantSpec(k=QuantizerSpec(2, "channel", "affine", 32, residual=64)), 64),
        )
    }
    acts = {name: found.acts for name, found in verdicts.items()}
    assert acts == {"longer": "yes", "q and k": "yes", "weights": "yes", "weights by row": "no", "channels": "no"}
    assert "K cache" in verdicts["longer"].reason
    assert verdicts["weights"].reason.startswith("Scales can act: weights share one scale a matrix")
    assert "K cache" not in verdicts["weights"].reason
    assert "every query reads all keys exactly" in verdicts["weights by row"].reason
    assert "every channel has its own scale" in verdicts["channels"].reason
    with pytest.raises(BadSpec, match="add --objective full"):
        search.run(loaded, Setting(ROPE, in_blocks(64, weights=WEIGHTS), search=asked()), TEXTS)


def test_scales_by_hand_ask_for_a_longer_text_in_one_line(tiny):
    with pytest.raises(BadSpec, match="in 64 tokens every query reads all keys exactly") as caught:
        search.probe(tiny(), Setting(ROPE, in_blocks(64), search=asked()), TEXTS)
    assert "make the searched length longer than 64" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_heads_without_any_error_count_as_1_whatever_their_scales(tiny):
    loaded = tiny()
    attention = loaded.model.model.layers[1].self_attn
    attention.k_proj.weight.data[:16] = 0  # K of the first KV head
    objective = search.probe(loaded, Setting(ROPE, QuantSpec(k=QuantizerSpec(4)), search=asked()), TEXTS).objective
    found = objective.per_head(torch.full((2, 2, 4), 0.5) * torch.tensor([1.0, -1, 1, -1]))
    assert float(found[1, 0]) == 1.0
    assert bool((found != 1.0).flatten()[[0, 1, 3]].all())


def test_a_replication_says_what_a_query_reads_under_each_quantizer(tiny):
    loaded = tiny()
    none = identity(2, 2, bands_of(loaded, BandSpec(2)), "symmetric", "kv_head")
    spec = ReplicationSpec(length=64, short_length=16, windows=2)

    def text(*quants):
        return measure_claims(
            loaded, [ReplicationSetting(ROPE, quant, none) for quant in quants], spec, TEXTS["heldout"]
        ).text

    plain = QuantSpec(k=QuantizerSpec(4))
    assert "the cache holds" not in text(plain)
    for quants in ([in_blocks(16)], [in_blocks(16), in_blocks(16, 4)]):
        assert text(*quants).count(SAID.format(16)) == 1
    both = text(plain, in_blocks(16))
    assert both.count("the cache holds") == 1
    assert "; under K int3 per token the cache holds keys of the newest 1 to 16 tokens" in both


def test_a_diagnosis_and_a_comparison_say_the_same_before_any_search(tiny, monkeypatch):
    loaded, why = tiny(), "in 64 tokens every query reads all keys exactly"
    spec = DiagnosisSpec(length=64, short_length=16, paired_tokens=16, windows=2, eps=0.05, bands=BandSpec(2))
    verdicts = [
        diagnose.run(loaded, Setting(ROPE, in_blocks(n), diagnosis=spec), TEXTS["calibration"]).verdict
        for n in (64, 63)
    ]
    assert [found.acts for found in verdicts] == ["no", "yes"]
    assert why in verdicts[0].reason
    comparison_spec = ComparisonSpec(search=asked(), windows=2, calibration_windows=1, methods=("rotation",))
    for tokens in (64, 63):
        sought = []

        def found(loaded, setting, *rest, sought=sought, **more):
            sought.append(setting.quant)
            return identity(2, 2, bands_of(loaded, BandSpec(4)), "symmetric", "kv_head")

        monkeypatch.setattr(compare, "find_scales", found)
        rows = compare.run(loaded, Setting(ROPE, in_blocks(tokens)), comparison_spec, TEXTS).rows
        assert [why in row.no_op for row in rows if not row.band_scales] == [tokens == 64] * 2
        assert len(sought) == (0 if tokens == 64 else 2)
