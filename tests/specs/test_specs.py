"""Specs are cache keys and the only gate for numbers: equal when they say the same, refused when they say nonsense."""

import math
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from qroar_core.errors import BadSpec
from qroar_core.interpolations.tie import Tie
from qroar_core.specs import (
    BandSpec,
    ComparisonSpec,
    ControlSpec,
    DiagnosisSpec,
    EvaluationSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    ReplicationSpec,
    RopeSpec,
    SearchSpec,
    WeightQuantSpec,
)

SPECS = [
    RopeSpec("longrope", 2.0, long_factor=(1.0, 2.0), short_factor=(1.0, 1.0)),
    WeightQuantSpec(4, scale="group", group_size=64),
    QuantizerSpec(4, scale="channel", group_size=32, residual=64),
    QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(8), name="two"),
    BandSpec(4, "log"),
    DiagnosisSpec(length=128, bands=BandSpec(4)),
    SearchSpec(mode="shared", bands=BandSpec(4)),
    EvaluationSpec(lengths=(64, 128), targets=32),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: type(s).__name__)
def test_specs_are_values(spec):
    twin = replace(spec)
    assert twin is not spec
    assert twin == spec
    assert hash(twin) == hash(spec)
    assert {spec: "cached"}[twin] == "cached"
    with pytest.raises(FrozenInstanceError):
        setattr(spec, fields(spec)[0].name, None)
    with pytest.raises((AttributeError, TypeError)):
        spec.unheard_of = 1


CHANGES = [
    (
        RopeSpec("yarn", 2.0),
        {
            "method": "ntk",
            "factor": 3.0,
            "original_context": 64,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "low_freq_factor": 2.0,
            "high_freq_factor": 8.0,
            "long_factor": (1.0,),
            "short_factor": (1.0,),
            "tie": (Tie(2, 3),),
            "attention_factor": 1.2,
        },
    ),
    (WeightQuantSpec(4), {"bits": 8, "scale": "tensor", "group_size": 32, "symmetric": False, "full_range": True}),
    (
        QuantizerSpec(8),
        {
            "bits": 4,
            "scale": "tensor",
            "levels": "affine",
            "group_size": 32,
            "scale_dtype": "float16",
            "before_rope": True,
            "rotation": "hadamard",
            "rotation_block": 32,
            "rotation_least": 64,
            "channel_order": "interleaved",
            "residual": 32,
        },
    ),
    (BandSpec(), {"count": 4, "partition": "turns"}),
    (
        DiagnosisSpec(),
        {
            "length": 64,
            "short_length": 32,
            "paired_tokens": 8,
            "windows": 2,
            "eps": 0.01,
            "bands": BandSpec(2),
            "law": "uniform",
            "paired": False,
            "query_rows": 8,
            "position_bins": 4,
            "chunk": 64,
            "seed": 1,
            "null_draws": 3,
            "outlier_rule": "mad",
            "outlier_parameter": 2.0,
            "band_cost": True,
        },
    ),
    (
        SearchSpec(),
        {
            "mode": "shared",
            "granularity": "layer",
            "objective": "full",
            "method": "optuna",
            "bands": BandSpec(2),
            "length": 64,
            "windows": 2,
            "max_log2_scale": 2.0,
            "pressure_weight": 0.5,
            "tail_weight": 0.5,
            "grid_points": 5,
            "sweeps": 2,
            "steps": 10,
            "polish_steps": 10,
            "polish_windows": 2,
            "polish_length": 64,
            "trials": 10,
            "query_rows": 8,
            "guard_tau": 0.1,
            "sampler": "random",
            "error_metric": "logits",
            "l2_penalty": 0.1,
            "angles": True,
            "seed": 1,
            "bounds": ((-1.0, 1.0),) * 8,
        },
    ),
    (
        EvaluationSpec(),
        {
            "lengths": (64,),
            "windows": 4,
            "targets": 8,
            "stride": 8,
            "rotation": False,
            "rotation_scales": True,
            "chunk": 64,
            "confidence": 0.9,
            "seed": 1,
        },
    ),
]


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [(s, f, v) for s, c in CHANGES for f, v in c.items()],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_every_field_is_part_of_the_key(spec, field, value):
    """A field left out of equality would serve one question's answer to another."""
    changed = replace(spec, **{field: value})
    assert changed != spec
    assert len({spec, changed}) == 2


def test_the_changes_above_cover_every_field():
    for spec, changes in CHANGES:
        left = {f.name for f in fields(spec)} - set(changes)
        below = {"static_scale", "fewer", "maps", "value_maps", "k_offset", "polish"}  # tested below
        assert left <= below, type(spec).__name__
    assert QuantizerSpec(8, scale="tensor", static_scale=0.5) != QuantizerSpec(8, scale="tensor")
    assert SearchSpec(angles=True, maps=True) != SearchSpec(angles=True)
    assert SearchSpec(value_maps=True) != SearchSpec()
    assert SearchSpec(k_offset=True) != SearchSpec()
    assert SearchSpec(polish=True) != SearchSpec()


@pytest.mark.parametrize(
    "kind", [SearchSpec, EvaluationSpec, PredictionSpec, ControlSpec, ReplicationSpec, ComparisonSpec]
)
def test_whether_somebody_asked_for_the_windows_is_no_part_of_the_key(kind):
    """It decides whether too few are refused, and no number."""
    assert kind(fewer=True) == kind()
    assert hash(kind(fewer=True)) == hash(kind())
    assert kind(fewer=True, windows=5) != kind(fewer=True)


def test_the_usual_outlier_parameter_is_the_same_question_written_or_not():
    assert DiagnosisSpec(outlier_parameter=1.5) == DiagnosisSpec()
    assert DiagnosisSpec(outlier_rule="mad", outlier_parameter=1.5) != DiagnosisSpec(outlier_rule="mad")
    assert DiagnosisSpec(outlier_rule="mad", outlier_parameter=3.5) == DiagnosisSpec(outlier_rule="mad")


def test_a_presets_name_is_no_part_of_the_key():
    assert QuantSpec(k=QuantizerSpec(4), name="a") == QuantSpec(k=QuantizerSpec(4), name="b")
    assert hash(QuantSpec(k=QuantizerSpec(4), name="a")) == hash(QuantSpec(k=QuantizerSpec(4)))


NAN, INF = math.nan, math.inf
REFUSED = [
    (RopeSpec, {"method": "foo"}, "unknown rope method 'foo'; choose one of default, dynamic, linear, llama3, long"),
    (RopeSpec, {"method": "yarn", "factor": 0.99}, "factor must be at least 1.0 and finite, got 0.99"),
    (RopeSpec, {"method": "yarn", "factor": NAN}, "factor must be at least 1.0 and finite, got nan"),
    (RopeSpec, {"method": "yarn", "factor": INF}, "factor must be at least 1.0 and finite, got inf"),
    (RopeSpec, {"method": "yarn", "factor": -INF}, "factor must be at least 1.0"),
    (RopeSpec, {"factor": 2.0}, "factor 2.0 needs a method; choose one of dynamic, linear"),
    (RopeSpec, {"method": "yarn", "original_context": 1}, "original_context must be at least 2"),
    (RopeSpec, {"method": "yarn", "beta_fast": 1.0}, "need beta_fast > beta_slow > 0, got 1.0, 1.0"),
    (RopeSpec, {"method": "yarn", "beta_slow": 0.0}, "need beta_fast > beta_slow > 0"),
    (RopeSpec, {"method": "yarn", "beta_slow": NAN}, "need beta_fast > beta_slow > 0"),
    (RopeSpec, {"method": "llama3", "high_freq_factor": 1.0}, "need high_freq_factor > low_freq_factor > 0"),
    *((WeightQuantSpec, {"bits": bits}, f"weight bits must be 2..8, got {bits}") for bits in (-1, 0, 1, 9, 16)),
    (WeightQuantSpec, {"bits": 4, "scale": "foo"}, "unknown weight scale 'foo'; choose one of tensor, channel, group"),
    (WeightQuantSpec, {"bits": 4, "group_size": 1}, "group_size must be at least 2"),
    (WeightQuantSpec, {"bits": 4, "full_range": True, "symmetric": False}, "full_range goes with symmetric weights"),
    *((QuantizerSpec, {"bits": bits}, f"bits must be 2..8, got {bits}") for bits in (-1, 0, 1, 9, 16)),
    (QuantizerSpec, {"bits": 4, "scale": "foo"}, "unknown scale 'foo'; choose one of token, channel, tensor, block"),
    (QuantizerSpec, {"bits": 4, "levels": "foo"}, "unknown levels 'foo'; choose one of absmax, affine"),
    (QuantizerSpec, {"bits": 4, "scale_dtype": "int8"}, "unknown scale dtype 'int8'; choose one of float32"),
    (QuantizerSpec, {"bits": 4, "rotation": "random"}, "unknown rotation 'random'; choose one of none, hadamard"),
    (QuantizerSpec, {"bits": 4, "channel_order": "x"}, "unknown channel order 'x'; choose one of model, interleaved"),
    (QuantizerSpec, {"bits": 4, "scale": "block"}, "scale block needs group_size >= 2, got None"),
    (QuantizerSpec, {"bits": 4, "scale": "channel", "group_size": 1}, "scale channel needs group_size >= 2, got 1"),
    (QuantizerSpec, {"bits": 4, "levels": "e4m3"}, "e4m3 has 8 bits, got bits=4"),
    (QuantizerSpec, {"bits": 4, "rotation_block": 24}, "a Hadamard block must be a power of two >= 2, got 24"),
    (QuantizerSpec, {"bits": 4, "rotation_least": 1}, "a Hadamard block must be a power of two >= 2, got 1"),
    (QuantizerSpec, {"bits": 4, "residual": -1}, "residual must be >= 0 tokens, got -1"),
    (QuantizerSpec, {"bits": 4, "scale": "channel", "group_size": 32, "residual": 33}, "be a multiple of group_size"),
    (QuantizerSpec, {"bits": 4, "scale": "channel", "group_size": 32, "rotation": "hadamard"}, "exclude each other"),
    (QuantizerSpec, {"bits": 4, "before_rope": True, "rotation": "hadamard"}, "applied after RoPE"),
    (QuantizerSpec, {"bits": 4, "static_scale": 0.0, "scale": "tensor"}, "static_scale must be > 0, got 0.0"),
    (QuantizerSpec, {"bits": 4, "static_scale": NAN, "scale": "tensor"}, "static_scale must be > 0, got nan"),
    (QuantizerSpec, {"bits": 4, "static_scale": 0.5}, "static_scale goes with scale tensor, not token"),
    (QuantizerSpec, {"bits": 4, "scale": "tensor", "levels": "ggml_signed"}, "takes its scale from each block"),
    (QuantSpec, {"v": QuantizerSpec(4, before_rope=True)}, "--v: V carries no RoPE; drop before_rope"),
    (QuantSpec, {"qk": QuantizerSpec(4, before_rope=True)}, "--qk: activations are rounded per token after RoPE"),
    (QuantSpec, {"qk": QuantizerSpec(4, residual=32)}, "--qk: activations are rounded per token"),
    (BandSpec, {"count": 0}, "bands must be at least 1"),
    (BandSpec, {"partition": "foo"}, "unknown partition 'foo'; choose one of count, log, turns"),
    (DiagnosisSpec, {"law": "foo"}, "unknown distance law 'foo'; choose one of causal, uniform"),
    *((DiagnosisSpec, {"eps": eps}, "eps must lie in \\(0, 0.5\\)") for eps in (0.0, 0.5, -1.0, NAN)),
    *(
        (DiagnosisSpec, {n: 0}, f"{n} must be at least 1")
        for n in ("paired_tokens", "windows", "query_rows", "position_bins", "chunk")
    ),
    (DiagnosisSpec, {"outlier_rule": "z"}, "unknown outlier rule 'z'; choose one of iqr, mad, percentile"),
    *((DiagnosisSpec, {"outlier_parameter": p}, "the outlier rule iqr must be at least 0.0") for p in (-1.0, NAN, INF)),
    *(
        (DiagnosisSpec, {"outlier_rule": "percentile", "outlier_parameter": p}, "must lie in \\[0.5, 1\\), got")
        for p in (99.0, 1.0, 0.4, NAN)
    ),
    (DiagnosisSpec, {"length": 1}, "length must be at least 2"),
    (DiagnosisSpec, {"short_length": 0}, "short_length must be at least 2"),
    (SearchSpec, {"mode": "foo"}, "unknown mode 'foo'; choose one of symmetric, shared"),
    (SearchSpec, {"granularity": "head"}, "unknown granularity 'head'; choose one of model, layer, kv_head"),
    (SearchSpec, {"objective": "foo"}, "unknown objective 'foo'; choose one of cached, full"),
    (SearchSpec, {"method": "foo"}, "unknown method 'foo'; choose one of coordinate, gradient, optuna"),
    (SearchSpec, {"sampler": "foo"}, "unknown sampler 'foo'; choose one of tpe, grid, random"),
    *(
        (SearchSpec, {n: 0}, f"{n} must be at least 1")
        for n in ("windows", "grid_points", "sweeps", "steps", "trials", "query_rows")
    ),
    *(
        (SearchSpec, {n: v}, f"{n} must be at least 0.0")
        for n in ("max_log2_scale", "pressure_weight", "tail_weight", "guard_tau")
        for v in (-0.1, NAN)
    ),
    (SearchSpec, {"grid_points": 8}, "grid_points must be odd so that 1 is on the grid, got 8"),
    (SearchSpec, {"bounds": ((-1.0, 1.0),) * 7}, "need bounds for 8 bands, got 7; give low:high per band"),
    *(
        (SearchSpec, {"bounds": ((0.0, 1.0),) * 7 + (pair,)}, "bounds of band 7 must hold 0 and stay within 16 octaves")
        for pair in ((0.5, 1.0), (-1.0, -0.5), (NAN, 1.0), (-1.0, NAN), (-INF, 0.0), (0.0, INF), (-17.0, 0.0))
    ),
    (EvaluationSpec, {"windows": 1}, "windows must be at least 2"),
    (EvaluationSpec, {"targets": 0}, "targets must be at least 1"),
    (EvaluationSpec, {"targets": -5}, "targets must be at least 1"),
    (EvaluationSpec, {"chunk": 0}, "chunk must be at least 1"),
    (EvaluationSpec, {"lengths": (64, 1)}, "length must be at least 2"),
    *((EvaluationSpec, {"confidence": c}, "confidence must lie in") for c in (0.5, 1.0, NAN, 95.0)),
]


def named(value):
    return value.__name__ if isinstance(value, type) else str(value) if isinstance(value, dict) else ""


@pytest.mark.parametrize(("kind", "values", "message"), REFUSED, ids=named)
def test_nonsense_is_refused_in_one_line(kind, values, message):
    with pytest.raises(BadSpec, match=message) as caught:
        kind(**values)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("factor", [1.0, 1.0000001, 2, 1e6])
@pytest.mark.parametrize("method", ["linear", "ntk", "dynamic", "yarn", "longrope", "llama3"])
def test_every_factor_from_1_is_taken(method, factor):
    assert RopeSpec(method, factor).factor == factor


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_width_from_2_to_8_is_taken(bits):
    assert WeightQuantSpec(bits).bits == QuantizerSpec(bits).bits == bits


@pytest.mark.parametrize(
    ("spec", "tokens"),
    [
        (QuantizerSpec(4), 1),
        (QuantizerSpec(4, scale="block", group_size=32), 1),
        (QuantizerSpec(4, residual=96), 96),
        (QuantizerSpec(4, scale="channel", group_size=32), 32),
        (QuantizerSpec(4, scale="channel", group_size=32, residual=64), 64),
    ],
    ids=lambda v: f"{v.scale} {v.residual}" if isinstance(v, QuantizerSpec) else "",
)
def test_block_tokens_are_those_that_round_together(spec, tokens):
    assert spec.block_tokens == tokens
    assert spec.keeps_recent == (tokens > 1)
    assert QuantSpec(k=spec, v=QuantizerSpec(4, residual=16)).block_tokens == max(tokens, 16)


def test_nothing_quantized_is_known_as_such():
    assert QuantSpec().is_none
    for part in ("k", "v", "qk"):
        assert not QuantSpec(**{part: QuantizerSpec(8)}).is_none
    assert not QuantSpec(weights=WeightQuantSpec(8)).is_none
    assert QuantSpec().block_tokens == 1


def test_a_static_scale_needs_no_calibration():
    assert QuantizerSpec(8, scale="tensor").needs_calibration
    assert not QuantizerSpec(8, scale="tensor", static_scale=0.1).needs_calibration
    assert not QuantizerSpec(8).needs_calibration


@pytest.mark.parametrize("spec", [s for s in SPECS if not isinstance(s, QuantSpec)], ids=lambda s: type(s).__name__)
def test_a_spec_survives_its_dict(spec):
    """What the manifest and scales.json write is enough to build the spec again."""
    values = {n: BandSpec(**v) if isinstance(v, dict) else v for n, v in asdict(spec).items()}
    assert type(spec)(**values) == spec
