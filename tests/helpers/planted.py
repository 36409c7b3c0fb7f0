"""Results made by hand, with numbers a test can name."""

from __future__ import annotations

import math

from scipy import stats

from qroar_core.diagnostics.aliasing.result import AliasingKernel, NativeKernel
from qroar_core.diagnostics.anisotropy.result import SWAPPED, AngleBlindNoise, Anisotropy
from qroar_core.diagnostics.bands.result import Band, Pairs
from qroar_core.diagnostics.dilation.result import Dilation
from qroar_core.diagnostics.logit_noise.result import LogitNoise
from qroar_core.diagnostics.outliers.result import Outliers, OutliersByRule
from qroar_core.diagnostics.outliers.result_matrices import MatrixByRule, MatrixMap
from qroar_core.diagnostics.pair_error.result import PairErrors, RandomAngle
from qroar_core.diagnostics.pressure.result import LogitChange
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.rounding.result import RoundedTensor, Roundings
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.similarity.result import HiddenSimilarity
from qroar_core.diagnostics.tail_inflation.result import Survival, TailTable
from qroar_core.evaluation.findings import by_document
from qroar_core.evaluation.result import Attribution, Evaluation, Gain, PositionCurve, RotationFinding, Row
from qroar_core.evaluation.run import scored
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.result import HistoryPoint, SearchReport, Verdict
from qroar_core.scale_search.search_objectives import objectives
from qroar_core.statistics.intervals import mean_interval, paired_interval
from qroar_core.transforms.result import ModelIdentity, ScalesFile

SAMPLE = Sample(tokens=64, seed=0, error="the null is the mean of 2 draws")
TUNED = ("quantized", "tuned")


def row(length, model, scales, nll, se=0.01, tokens=2048):
    return Row(
        length=length,
        model=model,
        scales=scales,
        nll=nll,
        nll_se=se,
        ppl=math.exp(nll),
        tokens=tokens,
        kl_mean=0.1,
        kl_p99=1.0,
        same_top1=0.9,
    )


def rotation(added=0.05):
    return RotationFinding(
        delta_nll=0.4,
        ci_low=0.35,
        ci_high=0.45,
        recovered=0.8,
        added=added,
        added_ci_low=added - 0.02,
        added_ci_high=added + 0.02,
        sentence="a Hadamard rotation recovers +0.4000 nats; scales add +0.0500 on top",
    )


CONDITIONS = (  # model, scales, NLL: the last of all lengths has 0.1 nats more
    ("reference", "identity", 2.0),
    ("reference", "tuned", 1.99),
    ("quantized", "identity", 2.5),
    ("quantized", "tuned", 2.25),
    ("quantized", "smooth_attention", 2.4),
    ("quantized", "rotation", 2.2),
)


def spread(mean, se, n):
    """Values of `n` windows with this mean and standard error: every other one as much above as the next below."""
    signs = [1 - 2 * (i % 2) if i < n - n % 2 else 0 for i in range(n)]
    unit = math.sqrt(sum(x * x for x in signs) / (n - 1) / n)
    return [mean + sign * se / unit for sign in signs]


def reach(se, n):
    """Half width of Student's interval at 95 %."""
    return float(stats.t.ppf(0.975, n - 1)) * se


def evaluation(significant=True, lengths=(256, 1024), targets=128, windows=16, stride=None, won=0.25, seed=0):
    """A gain of `won` +- 0.05 nats over windows, or +- 0.35; everything in it follows from its window means."""
    half = 0.05 if significant else 0.35
    se = 0.01 - half / reach(1.0, windows)  # of all but the tuned, whose own is 0.01: windows that rise fall there
    rows, means = [], {}
    for length in lengths:
        for model, scales, nll in CONDITIONS:
            mean, own = nll + 0.1 * (length == max(lengths) > 256), se
            if (model, scales) == TUNED:
                mean, own = mean + 0.25 - won, 0.01
            means[f"{length}/{model}/{scales}"] = spread(mean, own, windows)
            rows.append(row(length, model, scales, mean, abs(own), targets * windows))
    low, high = won - half, won + half
    words = f"{won:+.4f} nats [{low:+.4f}, {high:+.4f}]"
    return Evaluation(
        rows=rows,
        gain=Gain(
            length=max(lengths),
            delta_nll=won,
            ci_low=low,
            ci_high=high,
            significant=significant,
            windows=windows,
            confidence=0.95,
        ),
        attribution=Attribution(
            quantization_repair=won - 0.01,
            retuning=0.01,
            repair_ci_low=won - 0.01 - half,
            repair_ci_high=won - 0.01 + half,
        ),
        gap_recovered=won / 0.5 if significant else None,
        smooth_attention_gap_recovered=0.2,
        sentence=f"significant gain: {words}" if significant else f"no significant gain: keep identity ({words})",
        text=f"{windows} windows, {targets} targets each, digest abcd1234, seed {seed}",
        stride=stride,
        window_nll=means,
        positions=position_curve(rows, max(lengths), stride or targets),
    )


def position_curve(rows, length, scored):
    """Three points that rise by 0.1 nats each, those of a row around its NLL; as few as there are targets."""
    points = min(3, scored)
    each = [scored // points + (i < scored % points) for i in range(points)]
    low = sum(n * 0.1 * i for i, n in enumerate(each)) / scored  # from the first point to the mean
    middle = {f"{r.model}/{r.scales}": r.nll for r in rows if r.length == length}
    shown = ("reference/identity", "quantized/tuned")
    back = (124, 64, 4)[:points]
    return PositionCurve(
        position=[length - b for b in back] if length > 124 else [1, 2, 3][:points],
        curves={name: [middle[name] - low + 0.1 * i for i in range(points)] for name in shown},
    )


def shifted(result, by):
    """The same with every NLL `by` nats higher: gains and shares stay."""
    rows = [r.model_copy(update={"nll": r.nll + by, "ppl": math.exp(r.nll + by)}) for r in result.rows]
    means = {name: [value + by for value in values] for name, values in result.window_nll.items()}
    curves = {name: [value + by for value in values] for name, values in result.positions.curves.items()}
    positions = result.positions.model_copy(update={"curves": curves})
    return result.model_copy(update={"rows": rows, "window_nll": means, "positions": positions})


def over_documents():
    """The gain by three documents: 0.34 nats in one, 0.16 in two, and so not significant over them."""
    whole = evaluation()
    documents = ["b" if i % 2 else "a" if i < 8 else "c" for i in range(16)]
    before, tuned = (whole.window_nll[f"1024/quantized/{name}"] for name in ("identity", "tuned"))
    if before[0] - tuned[0] > 0.25:  # windows whose gain is high make one document, the others two
        documents = ["b" if i % 2 == 0 else "a" if i < 8 else "c" for i in range(16)]
    counted = by_document(before, tuned, documents, 0.95)
    assert not counted.significant
    return whole.model_copy(update={"documents": documents, "gain_by_document": counted})


def under(setting, significant=True, won=0.25):
    """The evaluation that a run of this setting may hold."""
    spec = setting.evaluation
    lengths = spec.lengths or (256, 1024)
    return evaluation(significant, lengths, scored(spec, lengths)[0], spec.windows, spec.stride, won, spec.seed)


def scattered():
    """45 % of a gap of 0.5 nats are recovered, but the windows disagree: the gain's interval includes zero."""
    won = (0.025, 0.425, 0.225)
    whole = evaluation(windows=3)
    means = {}
    for one in whole.rows:
        key = f"{one.length}/{one.model}/{one.scales}"
        middle = {"quantized/tuned": 2.5}.get(f"{one.model}/{one.scales}", one.nll - 0.1 * (one.length == 1024))
        means[key] = [middle + 0.1 * i - (won[i] if key.endswith("quantized/tuned") else 0) for i in range(3)]
    rows = []
    for one in whole.rows:
        over = mean_interval(means[f"{one.length}/{one.model}/{one.scales}"])
        rows.append(one.model_copy(update={"nll": over.mean, "nll_se": over.se, "ppl": math.exp(over.mean)}))
    gain = paired_interval(means["1024/quantized/identity"], means["1024/quantized/tuned"])
    words = f"{gain.mean:+.4f} nats [{gain.low:+.4f}, {gain.high:+.4f}]"
    ends = {"ci_low": gain.low, "ci_high": gain.high}
    parts = {"quantization_repair": gain.mean - 0.01, "retuning": 0.01}
    update = {
        "rows": rows,
        "positions": position_curve(rows, 1024, 128),
        "gain": whole.gain.model_copy(update={"delta_nll": gain.mean, "significant": False, **ends}),
        "attribution": Attribution(**parts, repair_ci_low=gain.low - 0.01, repair_ci_high=gain.high - 0.01),
        "gap_recovered": 0.45,
        "window_nll": means,
        "sentence": f"no significant gain: keep identity ({words})",
    }
    return whole.model_copy(update=update)


def decision(gain=0.0166, spread=0.005):
    return Decision(
        gain=gain,
        low=gain - spread,
        high=gain + spread,
        windows=8,
        length=1024,
        targets=1023,
        text="8 development windows of 1024 tokens",
    )


def searched(setting, bands, chosen="found"):
    """The report that a run of this setting may hold."""
    spec = setting.search
    method = ", ".join(filter(None, (spec.method, objectives()[spec.objective].words)))
    said = {"method": method, "objective": spec.objective, "bounds": [[(-1.0, 1.0)] * bands]}
    decided = report(chosen).decision
    if decided is not None and spec.length and spec.length < decided.length:
        length = spec.length
        decided = decided.model_copy(
            update={"length": length, "targets": length - 1, "text": f"8 development windows of {length} tokens"}
        )
        said |= {"decision": decided, "reason": f"significant gain: {decided.measured}"}
    return report(chosen).model_copy(update=said)


def report(chosen="found", n=5):
    decided = decision() if chosen == "found" else None
    history = [HistoryPoint(step=0, label="identity", objective=1.0, best=1.0)]
    history += [
        HistoryPoint(step=i, label=f"candidate {i}", objective=1 - i / n + 0.3 * (i % 2), best=1 - i / n)
        for i in range(1, n)
    ]
    return SearchReport(
        verdict=Verdict(acts="yes", reason="Scales can act: planted."),
        method="gradient",
        objective="cached",
        objective_identity=1.0,
        objective_found=0.2,
        history=history,
        bounds=[[(-1.0, 1.0), (-0.5, 0.5)]],
        trials=n,
        seconds=3.0,
        forward_seconds=1.0,
        forward_equivalents=3.0,
        guard="costs +0.0010 nats at 256 tokens, allowed 0.01",
        text="4 windows",
        chosen=chosen,
        reason="no significant gain: keep identity (+0.01 nats)"
        if decided is None
        else f"significant gain: {decided.measured}",
        decision=decided,
    )


def scales(granularity="kv_head", g=None):
    g = (
        g
        or {
            "model": [2.0, 0.5],
            "layer": [[2.0, 0.5], [1.0, 1.0]],
            "kv_head": [[[2.0, 0.5], [1.0, 1.0]], [[4.0, 1.0], [1.0, 0.25]]],
        }[granularity]
    )
    return ScalesFile(
        model=ModelIdentity(
            name="tiny", fingerprint="f", family="llama", layers=2, kv_heads=2, head_dim=8, rotary_dim=8, pairing="half"
        ),
        rope={},
        quantization={},
        mode="symmetric",
        granularity=granularity,
        bands=[(0, 1), (2, 3)],
        g=g,
    )


def diagnosis(quantized=True, pairing="half"):
    """Two layers, two KV heads, two bands of two pairs, two position bins."""
    table = TailTable(
        ratio=[[[1.0, 1.5], [0.9, 1.2]], [[1.1, 1.0], [1.0, 2.0]]],
        low=[[[0.9, 1.3], [0.8, 1.1]], [[1.0, 0.9], [0.9, 1.7]]],
        high=[[[1.1, 1.7], [1.0, 1.3]], [[1.2, 1.1], [1.1, 2.4]]],
        long=[[[2.0, 3.0], [2.0, 3.0]], [[2.0, 3.0], [2.0, 4.0]]],
        short=[[[2.0, 2.0], [2.0, 2.5]], [[2.0, 3.0], [2.0, 2.0]]],
        native=None,
    )
    largest = [[1.0, 1.5], [1.1, 2.0]]
    by_bin = [[[1.0, 2.0], [3.0, 4.0]], [[1.5, 2.5], [3.5, None]]]
    maps = [[[[1.0, 2.0]] * 8, [[1.0, 3.0]] * 8]] * 2
    sides = ("q/pre", "q/post", "k/pre", "k/post")
    near = [[[[0.1, 1.0, 2.0, None], [0.1, 1.0, 2.0, None]]] * 2] * 2  # [layer][kv_head][band][share]
    far = [[[[0.1, 1.0, 2.0, None], [0.2, 1.5, 4.0, 4.5]]] * 2] * 2
    return Diagnosis(
        bands=[band(0, 0, 1, pressure=0.5, weighted=0.02), band(1, 2, 3, pressure=4.0, weighted=0.01)],
        tail_inflation={side: {"q": largest, "k": largest} for side in ("pre", "post")},
        logit_noise=LogitNoise(
            position=[16, 64],
            rms=[0.1, 0.2],
            attention_kl=[0.01, 0.03],
            distance=[1, 32],
            rms_by_distance=[0.1, 0.4],
            by_layer=[[0.1, 0.2], [0.1, 0.2]],
            kl_by_layer=[[0.0, 0.02], [0.02, 0.04]],
            by_band=[[0.1, 0.3], [0.05, 0.2]],
            by_band_position=[[0.05, 0.1], [0.08, 0.17]],
            by_band_distance=[[0.04, 0.2], [0.09, None]],
            kind="local",
        )
        if quantized
        else None,
        pair_error=PairErrors(
            amplitude=[[0.1, 0.2], [0.3, 0.3]],
            phase=[[0.1, 0.1], [0.2, 0.4]],
            length_share=[[0.5, 0.5], [0.25, 0.75]],
            zeroed=[[0.0, 0.0], [0.1, 0.3]],
            share=0.625,
            zeroed_share=0.1,
            null=RandomAngle(
                amplitude=[[0.1, 0.1], [0.2, 0.2]],
                phase=[[0.1, 0.1], [0.2, 0.2]],
                length_share=[[0.5, 0.5], [0.5, 0.5]],
                share=0.5,
                share_low=0.48,
                share_high=0.52,
            ),
            sample=SAMPLE,
        )
        if quantized
        else None,
        verdict=Verdict(acts="yes", reason="Scales can act: planted."),
        pairs=Pairs(
            native_inv_freq=[1.0, 0.1, 0.01, 0.001],
            inv_freq=[1.0, 0.1, 0.005, 0.00025],
            turns=[40.0, 4.0, 0.4, 0.04],
            interpolation_pressure=[0.0, 1.0, 3.0, 5.0],
            phase_displacement=[0.0, 0.5, 2.0, 3.0],
            logit_weighted_pressure=[0.0, 0.04, 0.02, 0.0],
            unseen_phase=[0.0, 0.0, 0.2, 0.6],
            attention_factor=1.1,
        ),
        kernel=AliasingKernel(
            distance=[1, 8, 64],
            low=[[0.9, -0.5, -0.6], [1.0, 0.9, 0.2]],
            high=[[1.0, 0.2, 0.7], [1.0, 0.95, 0.3]],
            side_peak_at=[64, 8],
            side_peak=[None, None],
            null=NativeKernel(
                distance=[1, 4, 16],
                high=[[1.0, 0.1, 0.5], [1.0, 0.97, 0.6]],
                side_peak=[0.5, None],
                side_peak_at=[16, -1],
            ),
        ),
        logit_change=logit_change(),
        tails={side: table for side in sides},
        survival={
            side: Survival(share=[0.9, 0.5, 0.01, 0.001], long=far, short=near, body_bound=0.015625) for side in sides
        },
        dilation=Dilation(
            absmax=by_bin, rms=by_bin, bits_lost=[[[0.0, 0.5], [0.0, 1.25]]] * 2, quantiles={"0.5": by_bin}
        ),
        anisotropy=Anisotropy(
            angle=[0.0, math.pi / 4],
            error=[[1.0, 3.0], [1.0, 1.5]],
            ratio=[[3.0, 1.5], [2.0, None]],
            over="step",
            null=AngleBlindNoise(
                error=[[0.17, 0.16], [0.16, 0.17]],
                ratio=[[1.05, 1.1], [1.1, None]],
                largest=[1.0, 1.2],
                typical=[1.0, 1.2],
                control=SWAPPED,
            ),
            sample=SAMPLE,
        )
        if quantized
        else None,
        rounding=Roundings(k=rounded_tensor(), q=rounded_tensor(norm=0.001), sample=SAMPLE) if quantized else None,
        outliers=outliers({side: maps for side in sides}),
        hidden=HiddenSimilarity(cosine=[[1.0, 0.99], [0.99, 0.98]], sqnr_db=[[40.0, 30.0], [20.0, 10.0]])
        if quantized
        else None,
        position_edges=[0, 32, 64],
        length=64,
        short_length=16,
        windows=2,
        paired_tokens=8,
        eps=0.01,
        text="planted",
        pairing=pairing,
        rotary_dim=8,
        head_dim=8,
        n_kv_heads=2,
        scales_mode=None,
    )


def logit_change(in_all=0.02, null=0.024, error=0.001):
    return LogitChange(
        law="causal",
        in_all=in_all,
        in_all_error=error,
        in_all_bound=0.03,
        in_all_null=null,
        in_all_null_range=(null, null),
        by_band=[0.015, 0.007],
        error=[0.0005, 0.0002],
        bound=[0.02, 0.01],
        null=[0.016, 0.006],
        null_range=[(0.015, 0.018), (0.005, 0.007)],
        layers=[0, 1],
        by_layer=[[0.02, 0.004], [0.01, 0.01]],
        sample=Sample(tokens=64, rows=16, keys=8, seed=0, error="planted error"),
    )


def rounded_tensor(norm=-0.02, zeroed=0.25, clipped=0.0):
    """Two layers, two KV heads, two bands; the second layer's numbers are twice the first's."""

    def heads(value):
        return [[value, value], [2 * value, 2 * value]]

    return RoundedTensor(
        largest=heads(0.5),
        rms=heads(0.1),
        relative_to_value=heads(1.0),
        relative_to_vector=heads(0.07),
        norm_mean=heads(norm),
        norm_rms=heads(0.03),
        clipped=heads(clipped),
        zeroed=heads(zeroed),
        band_largest=heads(0.5),
        band_rms=heads(0.1),
        rest_largest=[None, None],
        rest_rms=[None, None],
        null_norm_mean=heads(0.004),
        null_norm_rms=heads(0.02),
    )


def matrix(heads=2):
    """Head 0 of layer 0 has one large row, channel 2; column 1 of 4 is large."""
    shares = {
        "int8 per tensor": [[0.0, 0.25], [0.0, 0.0]],
        "int4 per tensor": [[0.0, 0.2], [0.0, 0.0]],
        "int4 per channel": [[0.0, 0.8], [0.0, 0.0]],
    }
    even = [[0.125] * 8] * 2
    loud = [[1.0, 1.0, 6.0, *[1.0] * 5], *[[1.0] * 8] * (heads - 1)]
    found = MatrixMap(
        rows=[loud, [[1.0] * 8] * heads],
        columns=[[1.0, 4.0, 1.0, 1.0], [1.0] * 4],
        error_by_channel={name: even for name in shares}
        | {"int4 per channel": [[0.05, 0.05, 0.65, *[0.05] * 5], [0.125] * 8]},
    )
    by_rule = MatrixByRule(
        count=[[0.0, 1.0], [0.0, 0.0]],
        magnitude=[[None, 6.0], [None, None]],
        row_share=[[0.0, 0.125], [0.0, 0.0]],
        error_share=shares,
        columns=[1.0, 0.0],
        column_share=[0.25, 0.0],
        column_error_share={name: [0.5, 0.0] for name in shares},
    )
    return found, by_rule


def outliers(maps):
    by_iqr = OutliersByRule(
        rule="iqr",
        parameter=1.5,
        jaccard={"k/post": [[1.0, 0.5], [0.25, 0.0]]},
        mass_moved={"k/post": [[0.0, 0.1], [0.3, 1.0]]},
        error_share={"int4": [[0.5, 0.1], [0.2, None]]},
        entry_share=[[0.05, 0.0], [0.01, 0.0]],
        entry_limit=[[2.0, 2.0], [2.5, 2.5]],
        count={"k/post": [[1, 2], [0, 1]]},
        magnitude={"k/post": [[2.0, 5.0], [None, 3.0]]},
        stand_out={"k/post": [[2, 4], [4, 1]]},
        jaccard_null={"k/post": [[1.0, 0.9], [0.8, 1.0]]},
        mass_moved_null={"k/post": [[0.0, 0.05], [0.1, 0.0]]},
        share_null={"k/post": [0.9, 0.85, 0.95]},
        matrices={"W_Q": matrix(4)[1], "W_K": matrix()[1]},
    )
    strict = by_iqr.model_copy(
        update={
            "parameter": 3.0,
            "jaccard": {"k/post": [[1.0, None], [None, None]]},
            "mass_moved": {"k/post": [[0.0, None], [None, None]]},
            "stand_out": {"k/post": [[2, 0], [0, 0]]},
        }
    )
    by_mad = by_iqr.model_copy(update={"rule": "mad", "parameter": 3.5, "entry_share": [[0.1, 0.1], [0.1, 0.1]]})
    return Outliers(
        **dict(by_iqr),
        maps=maps,
        others=[by_iqr, strict, by_mad],
        error_by_channel={"int4": [[0.125] * 8, [0.3, *[0.1] * 7]]},
        sample=Sample(tokens=64, seed=0),
        matrix_maps={"W_Q": matrix(4)[0], "W_K": matrix()[0]},
    )


def band(index, first, last, pressure, weighted):
    return Band(
        index=index,
        first_pair=first,
        last_pair=last,
        wavelength_min=6.0,
        wavelength_max=60.0,
        turns=4.0,
        interpolation_pressure=pressure,
        phase_displacement=1.0,
        logit_weighted_pressure=weighted,
        side_peak=None,
        unseen_phase=0.1 * index,
        compression=1.0 / (1 + index),
        native_wavelength_min=5.0,
        native_wavelength_max=50.0,
        logit_change=(0.015, 0.007)[index % 2],
        logit_change_error=(0.0005, 0.0002)[index % 2],
    )
