"""Outliers of a whole diagnosis against keys that transformers' own cache holds, and against other chunk sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.tail_inflation.result import TENSORS
from qroar_core.models.text import Document, windows
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
INT4 = QuantSpec(k=QuantizerSpec(4))
SPEC = DiagnosisSpec(
    length=64, short_length=16, paired_tokens=8, windows=2, eps=0.05, bands=BandSpec(4), chunk=64, position_bins=16
)


MADE = []


@pytest.fixture
def seen(tiny):
    """A model with its largest channels planted, its diagnosis, and K after RoPE from transformers' cache."""
    if not MADE:
        MADE.append(made(tiny()))
    return MADE[0]


def made(loaded):
    for layer, channel in ((0, 3), (1, 9)):
        loaded.model.model.layers[layer].self_attn.k_proj.weight.data[channel] *= 12
    found = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=SPEC), TEXT)
    ids = windows(loaded.tokenizer, TEXT, 64, 1, 0).ids
    with torch.no_grad():
        cache = loaded.model(ids, use_cache=True).past_key_values
    keys = [cache.layers[layer].keys[0].double().numpy() for layer in range(2)]  # (KV, tokens, head_dim)
    return loaded, found, keys


def limit(values, rule="iqr", parameter=1.5):
    if rule == "percentile":
        return np.quantile(values, parameter)
    q1, q3 = np.quantile(values, [0.25, 0.75])
    return q3 + parameter * (q3 - q1)


@pytest.mark.parametrize(("rule", "parameter"), [("iqr", 1.5), ("iqr", 3.0), ("percentile", 0.9)])
def test_channels_of_the_cache_that_stand_out_early_and_late_by_band(seen, rule, parameter):
    _, found, keys = seen
    of = found.outliers.under(rule, parameter)
    band = [c % 8 // 2 for c in range(16)]  # half pairing, four bands of two pairs
    edges = found.position_edges
    # the first and last bins that the short context fills
    bins = sum(1 for edge in edges[1:] if edge <= 16)
    for layer, k in enumerate(keys):
        count = [0] * 4
        for head in range(k.shape[0]):
            size = np.abs(k[head])
            whole = size.mean(0)
            for c in np.flatnonzero(whole > limit(whole, rule, parameter)):
                count[band[c]] += 1
            sets = []
            for n in (bins, bins - 1):  # one bin more or less, as the short context is counted
                early, late = size[: edges[n]].mean(0), size[edges[16 - n] :].mean(0)
                sets.append([set(np.flatnonzero(m > limit(m, rule, parameter))) for m in (early, late)])
            jaccards = [len(a & b) / len(a | b) if a | b else None for a, b in sets]
            known = [j if j is None else pytest.approx(j, rel=1e-5) for j in jaccards]
            assert of.jaccard["k/post"][layer][head] in known
        assert of.count["k/post"][layer] == count


@pytest.mark.parametrize(("rule", "parameter"), [("iqr", 1.5), ("iqr", 3.0), ("percentile", 0.9)])
def test_entries_of_the_cache_and_their_int4_error(seen, rule, parameter):
    _, found, keys = seen
    of = found.outliers.under(rule, parameter)
    band = np.array([c % 8 // 2 for c in range(16)])
    for layer, k in enumerate(keys):
        step = np.abs(k).max(-1, keepdims=True) / 7
        error = (np.round(k / step) * step - k) ** 2
        far = np.zeros(k.shape, dtype=bool)
        for head in range(k.shape[0]):
            exact = limit(np.abs(k[head]).ravel(), rule, parameter)
            assert of.entry_limit[layer][head] == pytest.approx(exact, rel=0.05)
            far[head] = np.abs(k[head]) >= of.entry_limit[layer][head] * (1 - 1e-3)
        for b in range(4):
            here = band == b
            assert of.entry_share[layer][b] == pytest.approx(far[..., here].mean(), rel=1e-3, abs=1e-9)
            share = error[..., here][far[..., here]].sum() / error[..., here].sum()
            for name in ("int4", "in force"):
                assert of.error_share[name][layer][b] == pytest.approx(share, rel=1e-2, abs=1e-6)
        by_channel = error.sum((0, 1)) / error.sum()
        assert found.outliers.error_by_channel["in force"][layer] == pytest.approx(by_channel.tolist(), rel=1e-2)


@pytest.mark.parametrize("chunk", [7, 16, 33])
def test_nothing_about_outliers_depends_on_the_chunk(seen, chunk):
    loaded, found, _ = seen
    other = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=replace(SPEC, chunk=chunk)), TEXT).outliers
    same(found.outliers.model_dump(), other.model_dump())


def same(a, b):
    """Up to the last digit of what the file keeps, as float32 sums over other chunks differ in theirs."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            same(a[name], b[name])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            same(one, other)
    else:
        assert a == (pytest.approx(b, rel=2e-3, abs=1e-6) if isinstance(b, float) else b)


def test_the_rule_asked_for_is_the_one_in_the_file_and_survives_it(seen, tmp_path):
    loaded, found, _ = seen
    spec = replace(SPEC, outlier_rule="percentile", outlier_parameter=0.8)
    asked = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=spec), TEXT)
    assert (asked.outliers.rule, asked.outliers.parameter) == ("percentile", 0.8)
    assert (found.outliers.rule, found.outliers.parameter) == ("iqr", 1.5)
    # a fifth of 16 channels lies above the 0.8 quantile, in each of two heads
    assert [sum(row) for row in asked.outliers.count["k/post"]] == [6.0, 6.0]
    path = tmp_path / "diagnosis.json"
    path.write_text(asked.to_json())
    again = Diagnosis.from_file(path)
    assert again.outliers.under("percentile", 0.8).count == asked.outliers.count
    assert again.outliers.parameters("percentile") == [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]


@pytest.mark.parametrize("side", ["q/pre", "q/post"])
def test_queries_are_counted_by_query_head_as_rows_of_w_q_are(tiny, side):
    """One channel of three query heads, two of which read one KV head, made larger; q by transformers itself."""
    loaded = tiny(num_attention_heads=6, num_key_value_heads=2)
    layers = loaded.model.model.layers
    for head, channel in ((0, 3), (1, 9), (4, 14)):
        layers[0].self_attn.q_proj.weight.data[head * 16 + channel] *= 3
    found = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=SPEC), TEXT).outliers
    ids, put_out = windows(loaded.tokenizer, TEXT, 64, 1, 0).ids, []
    hooks = [layer.self_attn.q_proj.register_forward_hook(lambda *a: put_out.append(a[-1])) for layer in layers]
    with torch.no_grad():
        loaded.model(ids)
        cos, sin = loaded.model.model.rotary_emb(put_out[0], torch.arange(64)[None])
    for hook in hooks:
        hook.remove()
    for layer, flat in enumerate(put_out):
        q = flat[0].unflatten(-1, (6, 16)).transpose(0, 1)
        if side == "q/post":
            q = q * cos[0] + torch.cat((-q[..., 8:], q[..., :8]), -1) * sin[0]
        size = q.abs().double().numpy()  # (6, tokens, 16)
        count, early, late = [0] * 4, size[:, :16].mean(1), size[:, 48:].mean(1)
        for head in range(6):
            whole = size[head].mean(0)
            for c in np.flatnonzero(whole > limit(whole)):
                count[c % 8 // 2] += 1
            near, far = (set(np.flatnonzero(m[head] > limit(m[head]))) for m in (early, late))
            jaccard = len(near & far) / len(near | far) if near | far else None
            assert found.jaccard[side][layer][head] == (jaccard if jaccard is None else pytest.approx(jaccard))
            assert np.array(found.maps[side][layer][head]) == pytest.approx(
                size[head].reshape(16, 4, 16).max(1).T, rel=1e-3
            )
            rms = np.sqrt((size[head] ** 2).mean())
            assert found.peak_null[side][layer][head] / rms == pytest.approx(3.397, rel=1e-3)  # of 1,024 normal values
        assert found.count[side][layer] == count
        assert len(found.maps[side][layer]) == 6
    assert sum(found.count["q/pre"][0]) >= 3
    every = {r.quantity: r.null for r in found.null_rows()}

    by_chance = every[f"channels of {TENSORS[side]} that stand out, all layers and heads"]
    assert by_chance == every["rows of W_Q that stand out, all layers and heads"]  # as many heads


def digits(value):
    """Significant digits that any number of nested lists is written with, at most."""
    if isinstance(value, list):
        return max(map(digits, value), default=0)
    return len(f"{value:.9e}".partition("e")[0].replace(".", "").strip("-0")) if value else 0


def test_files_hold_six_digits_and_maps_four(seen):
    """Sizes of outlier channels and their maps, against K in transformers' own cache."""
    _, found, keys = seen
    written = found.as_written().outliers
    sizes, maps = written.magnitude["k/post"], written.maps["k/post"]
    assert (digits(sizes), digits(written.error_share["int4"]), digits(written.matrix_maps["W_K"].rows)) == (6, 6, 6)
    assert digits(maps) == 4
    for layer, k in enumerate(keys):
        mean = np.abs(k).mean(1)  # (KV, channels)
        times = mean / np.median(mean, 1)[:, None] * (mean > np.array([limit(row) for row in mean])[:, None])
        assert max(v for v in sizes[layer] if v is not None) == pytest.approx(times.max(), rel=6e-6)
        largest = np.abs(k).reshape(len(k), 16, 4, -1).max(2).swapaxes(1, 2)  # (KV, channels, bins)
        assert np.array(maps[layer]) == pytest.approx(largest, rel=5.1e-4)
        assert np.array(maps[layer]) != pytest.approx(largest, rel=1e-5)


def test_draws_of_the_null_follow_the_seed_and_their_number(seen):
    loaded, found, _ = seen
    several = diagnose.run(
        loaded, Setting(RopeSpec(), INT4, diagnosis=replace(SPEC, null_draws=5, outlier_parameter=0.5)), TEXT
    ).outliers
    assert "the null was drawn 5 times" in several.sample.sentence
    mean, low, high = several.share_null["k/post"]
    assert low <= mean <= high
    assert low < high
    assert found.outliers.share_null["k/post"][1] == found.outliers.share_null["k/post"][2]


def test_a_context_that_is_all_short_has_nothing_to_compare(tiny):
    spec = replace(SPEC, length=64, short_length=32, windows=2, position_bins=1)
    found = diagnose.run(tiny(), Setting(RopeSpec(), QuantSpec(), diagnosis=spec), TEXT).outliers
    assert not found.disjoint
    assert found.jaccard["k/post"] == [[None, None], [None, None]]
    assert found.share_null["k/post"] == [None, None, None]
    assert set(found.error_share) == {"int8", "int4"}  # nothing is in force
    assert all(row.measured is None for row in found.null_rows() if "early or late" in row.quantity)


def test_chance_holds_where_nothing_was_planted_and_not_where_something_was(seen, tiny):
    """Rows of W_K of normal weights stand out as often as chance says; one made twelve times larger does not."""
    plain = diagnose.run(tiny(seed=1), Setting(RopeSpec(), INT4, diagnosis=SPEC), TEXT).outliers
    rows = {r.quantity: r for r in plain.null_rows()}
    for matrix in ("W_Q", "W_K"):
        row = rows[f"rows of {matrix} that stand out, all layers and heads"]
        assert row.low <= row.measured <= row.high
        assert 0 < row.null < 4
        largest = rows[f"largest row of {matrix} over its head's median row, largest over layers and heads"]
        assert largest.measured == pytest.approx(largest.null, rel=0.15)
    planted = {r.quantity: r for r in seen[1].outliers.null_rows()}
    largest = planted["largest row of W_K over its head's median row, largest over layers and heads"]
    assert largest.measured > 5 * largest.null
    peak = planted["largest |x| of K after RoPE over that of normal values, largest over layers and heads"]
    assert peak.measured > 1.2 * rows[peak.quantity].measured
