"""A run whose files contradict each other, or themselves, is unreadable with the reason; a whole one is readable."""

import json
from dataclasses import replace

import pytest

from qroar_core.errors import BadOutput
from qroar_core.evaluation.contradictions import contradictions_of
from qroar_core.evaluation.result import Evaluation
from qroar_core.runs import pipeline
from qroar_core.runs.agreement import _search
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.record import read_record
from qroar_core.scale_search.gain import contradicts
from qroar_core.scale_search.result import HistoryPoint
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import identity
from tests.helpers import planted
from tests.runs.kept import keep_all

D, E, S, F, K, M = (
    "diagnosis.json",
    "evaluation.json",
    "search.json",
    "scales_found.json",
    "scales.json",
    "manifest.json",
)
TUNED = "1024/quantized/tuned"


@pytest.fixture
def folder(root, loaded, setting):
    keep_all(loaded, setting)
    (made,) = root.iterdir()
    evaluation = json.loads((made / E).read_text())
    won = zip(evaluation["window_nll"]["1024/quantized/identity"], evaluation["window_nll"][TUNED], strict=True)
    gains = [before - after for before, after in won]
    documents = [str(i // 2) for i in range(16)]  # of two windows each: 0.25 nats in every one, as windows take turns
    sentence = (
        "counted over 8 documents instead of 16 windows, the gain remains significant: +0.2500 nats [+0.2500, +0.2500]"
    )
    counted = {"documents": 8, "delta_nll": 0.25, "ci_low": 0.25, "ci_high": 0.25, "significant": True}
    assert {round(gains[i] + gains[i + 1], 4) for i in range(0, 16, 2)} == {0.5}
    change(made / E, documents=documents, gain_by_document=counted | {"sentence": sentence})
    return made


def change(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def row(content, length=1024, model="quantized", scales="tuned"):
    return next(r for r in content["rows"] if (r["length"], r["model"], r["scales"]) == (length, model, scales))


def said(name, **entries):
    """An edit of a table of the file."""
    return lambda content: content[name].update(entries)


def without(**which):
    def edit(content):
        content["rows"] = [r for r in content["rows"] if any(r[name] != value for name, value in which.items())]

    return edit


def close(**entries):
    """A row's closeness, which fits it but for `entries`."""
    kl = {str(p): 0.1 + 0.001 * p for p in (50, 90, 95)} | {"99": 1.0, "100": 2.0}
    none = dict.fromkeys(("ln_ratio_se", "correlation", "kl_mean_se", "delta_p_mean_se", "delta_p_rms_se"), None)
    whole = {"ln_ratio": 0.25, "kl_mean": 0.1, "kl": kl, "delta_p_mean": 0.0, "delta_p_rms": 0.0, "same_top1": 0.9}
    whole |= none | {"delta_p": {"0": -1.0, "50": 0.0, "100": 1.0}, "same_top1_se": None}
    return lambda content: row(content).update(close=whole | entries)


EDITS = [
    (E, without(length=1024), "rows: none of quantized/identity at 1024 tokens, of which gain speaks"),
    (E, without(length=256), "window_nll: none|window_nll.256/quantized/identity: of no row"),
    (E, without(length=1024, scales="smooth_attention"), "rows: none of quantized/smooth_attention at 1024 tokens"),
    (E, without(length=1024, model="reference", scales="identity"), "rows: none of reference/identity at 1024 tokens"),
    (E, without(length=1024, model="quantized", scales="tuned"), "rows: none of quantized/tuned at 1024 tokens"),
    (E, lambda c: c["rows"].append(c["rows"][0]), "rows: reference/identity is there twice at 256 tokens"),
    (E, lambda c: c["rows"].reverse(), "rows: of 1024, 256 tokens, but the manifest has 256, 1024"),
    (E, lambda c: row(c).update(tokens=5), "rows: not the same number of tokens in each"),
    (E, lambda c: row(c).update(ppl=3.0), "rows.9.ppl: 3, not e to its nll 2.35"),
    (E, lambda c: row(c).update(ppl="Infinity"), "rows.9.ppl: infinite, its nll is 2.35"),
    (E, lambda c: row(c).update(nll=1.0, ppl=2.71828), "rows.9.nll: 1, its windows have 2.35"),
    (E, lambda c: row(c).update(nll_se=0.5), "rows.9.nll_se: 0.5, its windows have 0.01"),
    (E, lambda c: c.update(window_nll={}), "window_nll: none of 1024/quantized/identity, of which there is a row"),
    (E, lambda c: c["window_nll"].pop(TUNED), f"window_nll: none of {TUNED}, of which there is a row"),
    (E, lambda c: c["window_nll"].update({"77/a/b": [1.0] * 16}), "window_nll.77/a/b: of no row"),
    (E, lambda c: c["window_nll"][TUNED].__setitem__(0, 9.0), "rows.9.nll: 2.35, its windows have 2.76"),
    (E, said("gain", delta_nll=0.9), "gain.delta_nll: 0.9, its windows have 0.25"),
    (E, said("gain", ci_low=0.1), "gain.ci_low: 0.1, its windows have 0.2"),
    (E, said("gain", ci_low=-0.5), "gain.ci_low: -0.5, its windows have 0.2"),
    (E, said("gain", significant=False), "gain.significant: False, ci_low is 0.2"),
    (E, said("gain", length=512), "rows: none of quantized/identity at 512 tokens, of which gain speaks"),
    (E, said("gain", windows=99), "windows: window_nll has 16, documents has 16, gain.windows has 99, text has 16"),
    (E, said("gain", confidence=0.6), "gain.ci_low: 0.2, its windows have 0.22"),
    (E, lambda c: c.update(gain=None), "gain: none, its windows say otherwise"),
    (E, lambda c: c.update(gap_recovered=5.0), "gap_recovered: 5, its windows have 0.5"),
    (
        E,
        lambda c: c.update(smooth_attention_gap_recovered=0.3),
        "smooth_attention_gap_recovered: 0.3, its windows have",
    ),
    (E, said("attribution", retuning=0.5), "attribution.retuning: 0.5, its windows have 0.01"),
    (E, lambda c: c.update(documents=["a"] * 16), "gain_by_document.documents: 8, there are 1"),
    (E, lambda c: c.update(documents=[]), "documents: none, a gain is counted over them"),
    (E, said("gain_by_document", documents=3), "gain_by_document.documents: 3, there are 8"),
    (E, said("gain_by_document", ci_low=-1.0), "gain_by_document.ci_low: -1, its windows have 0.25"),
    (E, said("gain_by_document", significant=False), "gain_by_document.significant: False, ci_low is 0.25"),
    (E, said("gain_by_document", sentence="counted over 2"), "gain_by_document.sentence: does not say"),
    (E, lambda c: c.update(sentence=""), "sentence: does not say what its numbers say (significant gain: +0.2500"),
    (E, lambda c: c.update(sentence=c["sentence"].replace("0.2500", "0.9999")), "sentence: does not say"),
    (E, lambda c: c.update(sentence="no" + c["sentence"][3:]), "sentence: does not say"),
    (E, lambda c: c.update(text=c["text"].replace("16", "9")), "windows: window_nll has 16"),
    (
        E,
        lambda c: c.update(stride=64),
        "stride: 64, but the manifest has null|stride: 64, but the manifest has None|positions.curves",
    ),
    (E, lambda c: c["positions"]["position"].reverse(), "positions.position: not in rising order"),
    (E, said("positions", position=[1, 2, 99999]), "positions.position: beyond the longest length"),
    (E, said("positions", curves={}), "positions.curves: none of reference/identity"),
    (E, close(kl_mean=3.0), "rows.9.kl_mean: 0.1, close has 3"),
    (E, close(ln_ratio=3.0), "rows.9.close.ln_ratio: 3, the rows have 0.25"),
    (E, close(kl={}), "rows.9.close.kl: no percentiles"),
    (E, close(kl={"50": 1.0, "99": 0.5}), "rows.9.close.kl: a percentile below a lower one"),
    (S, lambda c: c.update(chosen="identity"), "reason: that of scales that are kept, chosen is identity"),
    (
        S,
        lambda c: c.update(chosen="identity", reason="no significant gain"),
        "chosen: identity, decision.low is 0.0116",
    ),
    (S, lambda c: c.update(decision=None), "decision: none, though scales were kept"),
    (S, said("decision", low=-9.0, gain=-4.48915), "chosen: found, decision.low is -9"),
    (S, said("decision", gain=0.02), "decision.gain: 0.02, its interval is around 0.0166"),
    (S, said("decision", windows=0), "decision.windows: 0"),
    (S, said("decision", length=7), "decision.targets: 1023 of 7 tokens"),
    (S, said("decision", targets=9999), "decision.targets: 9999 of 1024 tokens"),
    (S, said("decision", windows=9), "decision.text: 8 windows of 1024, decision has 9 of 1024"),
    (
        S,
        lambda c: c.update(reason="significant gain: all good"),
        "reason: does not say what the decision says (+0.0166 nats",
    ),
    (S, lambda c: c.update(bounds=[*c["bounds"] * 3]), "bounds: of 3 layers, scales_found.json has 2"),
    (S, lambda c: c.update(bounds=[c["bounds"][0][:1]]), "bounds: of 1 bands, scales_found.json has 2"),
    (S, lambda c: c.update(bounds=[[[1.0, -1.0]] * 2]), "bounds: a lower one above the higher"),
    (S, lambda c: c.update(trials=3), "trials: 3, history has 5"),
    (S, said("verdict", acts="no"), "verdict: scales cannot act, and yet they were searched"),
    (S, lambda c: c.update(method="grid"), "method: another, but the manifest has gradient"),
    (
        S,
        lambda c: c.update(objective="kl"),
        "nothing below 1 was reached|objective: another, but the manifest has cached",
    ),
    (F, said("rope", factor=3.0), "rope.factor: 3.0, but the manifest has 2.0"),
    (F, lambda c: c["quantization"]["k"].update(bits=2), "quantization.k.bits: 2, but the manifest has 4"),
    (
        K,
        lambda c: c.update(g=[[[1.0] * 2] * 2] * 2),
        "g: identity, search.json and evaluation.json say that those found",
    ),
    (K, lambda c: c["g"][0][0].__setitem__(0, 3.0), "g: neither those found nor identity"),
    (M, lambda c: c["specs"]["evaluation"].update(lengths=[128, 512]), "but the manifest has 128, 512"),
    (M, lambda c: c["specs"]["evaluation"].update(windows=4), "text: 16 windows, but the manifest has 4"),
    (M, lambda c: c["specs"]["evaluation"].update(targets=64), "but the manifest has 16 windows of 64 targets"),
    (M, lambda c: c["specs"]["evaluation"].update(rotation=False), "rows: a rotation, which its manifest does not ask"),
    (M, lambda c: c["specs"]["search"]["bands"].update(count=4), "bands: 2, but the manifest has 4"),
    (M, lambda c: c["specs"]["search"].update(length=512), "decision.length: 1024, but the manifest has 512"),
    (M, lambda c: c.update(covers=-1), "covers: -1 is below 1"),
    (
        M,
        lambda c: c["specs"]["search"].update(angles=True),
        "angles: scales_found.json has none, but the manifest has True",
    ),
    (M, lambda c: c["specs"]["search"].update(guard_tau=0.5), "guard: allows 0.01, but the manifest has 0.5"),
    (M, lambda c: c["specs"]["evaluation"].update(windows=20), "text: 16 windows, but the manifest has 20"),
    (M, lambda c: c["specs"]["evaluation"].update(seed=7), "text: seed 0, but the manifest has 7"),
    (M, lambda c: c["specs"]["diagnosis"].update(length=128), "length: 64, but the manifest has 128"),
    (M, lambda c: c["specs"]["diagnosis"].update(windows=1), "windows: 2, but the manifest has 1"),
    (M, lambda c: c["specs"]["diagnosis"].update(eps=0.1), "eps: 0.01, but the manifest has 0.1"),
    (D, said("dilation", sample={"tokens": 64, "seed": 3}), "dilation.sample.seed: 3, but the manifest has 0"),
    (M, lambda c: c["specs"]["diagnosis"]["bands"].update(count=15), "bands: 2, but the manifest has 15"),
]


def test_what_a_run_writes_is_readable_and_an_edit_that_changes_nothing_leaves_it_so(folder):
    assert read_record(folder).problem == ""
    for name in (E, S, F, K, M):
        change(folder / name)
    assert read_record(folder).problem == ""


@pytest.mark.parametrize(
    ("number", "problem"), [("+0.2500", ""), ("+0.3500", "gain_by_document.sentence: does not say")]
)
def test_a_gain_by_document_in_older_words_is_read_by_its_numbers(folder, number, problem):
    one = json.loads((folder / E).read_text())["gain_by_document"]
    words = f"counted over 8 documents instead of 16 windows, the gain stands: {number} nats [+0.2500, +0.2500]"
    change(folder / E, gain_by_document=one | {"sentence": words})
    found = read_record(folder).problem
    assert problem in found if problem else not found


@pytest.mark.parametrize(("name", "edit", "problem"), EDITS, ids=lambda x: x[:70] if isinstance(x, str) else "")
def test_an_edit_makes_the_run_unreadable_with_the_reason(folder, name, edit, problem):
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))
    found = read_record(folder).problem
    assert any(words in found for words in problem.split("|")), found
    assert "\n" not in found
    assert read_record(folder).setting is None


def report(label, count, **entries):
    """A search's report with so many candidates of a label, as a file has it."""
    history = [HistoryPoint(step=i, label=f"{label} {i}", objective=1.0, best=1.0) for i in range(1, count + 1)]
    return planted.report().model_copy(update={"history": history, **entries})


TEXT = "6 calibration windows of 1024 tokens, digest 1347168e, seed 0"
FEWER = "6 calibration windows (all that the text holds, 13 by default) of 1024 tokens, digest 1347168e, seed 0"


@pytest.mark.parametrize(
    ("spec", "entries", "problems"),
    [
        ({"steps": 17}, {"label": "gradient step", "count": 200}, ["history: 200 times gradient step"]),
        ({"steps": 400}, {"label": "gradient step", "count": 200}, ["history: 200 times gradient step"]),
        ({"steps": 400}, {"label": "gradient step", "count": 200, "reason": "cancelled"}, []),
        ({"steps": 200}, {"label": "gradient step", "count": 200}, []),
        ({"method": "optuna", "trials": 9}, {"label": "trial", "count": 8, "method": "optuna"}, ["history: 8 times"]),
        ({"method": "coordinate"}, {"label": "sweep 1, band", "count": 64, "method": "coordinate"}, []),
        (
            {"method": "coordinate"},
            {"label": "sweep 1, band", "count": 63, "method": "coordinate"},
            ["history: 63"],
        ),
        ({"objective": "full"}, {"label": "sweep 1, band", "count": 40, "objective": "full"}, []),
        (
            {"objective": "full", "trials": 41},
            {"label": "sweep", "count": 40, "objective": "full"},
            ["history: 40"],
        ),
        ({"objective": "kl"}, {"label": "polish step", "count": 64, "objective": "kl"}, []),
        (
            {"objective": "kl"},
            {"label": "polish step", "count": 65, "objective": "kl"},
            ["history: 65 times"],
        ),
        ({"windows": 6}, {"text": TEXT}, []),
        ({"windows": 5, "fewer": True}, {"text": TEXT}, ["text: 6 windows, but the manifest has 5"]),
        ({"windows": 13, "fewer": True}, {"text": TEXT}, ["text: 6 windows, but the manifest has 13"]),
        ({"windows": 13, "fewer": True}, {"text": FEWER}, []),
        ({"windows": 6, "seed": 9}, {"text": TEXT}, ["text: seed 0, but the manifest has 9"]),
    ],
)
def test_a_search_is_of_the_setting_that_its_manifest_says(spec, entries, problems):
    made = report(**({"label": "candidate", "count": 5} | entries))
    found = list(_search(made, None, Setting(RopeSpec(), QuantSpec(), search=SearchSpec(length=1024, **spec))))
    assert [one for one, start in zip(found, problems, strict=True) if not one.startswith(start)] == []


def test_a_search_with_angles_whose_guard_rejects_them_leaves_scales_without_any(loaded):
    geo, made = loaded.geometry, report(label="candidate", count=5)
    spec = SearchSpec(length=1024, angles=True)
    setting = Setting(RopeSpec(), QuantSpec(), search=spec)
    one = identity(geo.n_layers, geo.n_kv_heads, ((0, geo.n_pairs - 1),))
    rejected = to_file(loaded, RopeSpec(), QuantSpec(), one)
    assert not [found for found in _search(made, rejected, setting) if found.startswith("angles")]
    moved = to_file(loaded, RopeSpec(), QuantSpec(), replace(one, g=one.g * 2))
    for field in ("angles", "maps"):
        asked = replace(setting, search=replace(spec, maps=field == "maps"))
        assert [found for found in _search(made, moved, asked) if found.startswith(field)] == [
            f"{field}: scales_found.json has none, but the manifest has True"
        ]


def test_the_others_stay(folder, loaded, setting):
    keep_all(loaded, replace(setting, search=replace(setting.search, seed=7)))
    (other,) = set(folder.parent.iterdir()) - {folder}
    change(folder / E, sentence="")
    assert read_record(folder).problem != ""
    assert read_record(other).problem == ""


def test_numbers_rounded_to_six_digits_follow_from_windows_that_are():
    """Of many draws, each with its windows, gain, shares and sentence as a file has them."""
    import random

    from qroar_core.evaluation.findings import findings

    draw = random.Random(0)
    for n, level, spread in [
        (n, level, spread) for n in (2, 3, 8) for level in (0.5, 3.0, 7e4) for spread in (1e-4, 1)
    ]:
        means = {
            name: [level * (1 + draw.random()) + spread * draw.gauss(0, 1) for _ in range(n)]
            for name in ("reference/identity", "reference/tuned", "quantized/identity", "quantized/tuned")
        }
        means |= {"quantized/rotation": means["reference/tuned"][::-1]}
        rows = []
        for name, values in means.items():
            mean = sum(values) / n
            se = (sum((v - mean) ** 2 for v in values) / (n - 1) / n) ** 0.5
            model, scales = name.split("/")
            ppl = 2.718281828459045**mean if mean < 700 else float("inf")
            rows.append(planted.row(64, model, scales, 1.0, se, 63 * n).model_copy(update={"nll": mean, "ppl": ppl}))
        where = f"{n} held-out windows of 64 tokens, every token but the first scored"
        found = Evaluation(
            rows=rows,
            text=f"{n} windows, 63 targets each, digest a, seed 0",
            window_nll={f"64/{name}": values for name, values in means.items()},
            **findings(means, 64, 0.95, [str(i) for i in range(n)], where),
        )
        assert list(contradictions_of(found.as_written())) == [], (n, level, spread)


def test_an_older_evaluation_without_window_means_is_asked_nothing_of_them():
    content = json.loads(planted.evaluation().to_json())
    for younger in ("window_nll", "stride", "positions", "rotation", "documents", "gain_by_document"):
        del content[younger]
    assert list(contradictions_of(Evaluation.model_validate(content))) == []


def test_a_run_that_contradicts_itself_is_not_resumed(folder, loaded, setting):
    change(folder / E, sentence="")
    with pytest.raises(BadOutput, match=r"evaluation\.json: sentence: does not say what its numbers say"):
        pipeline.run(loaded, setting, {}, RunFolder.open(folder, loaded, setting, "made in a test"))


@pytest.mark.parametrize(("low", "either"), [(-1e-9, False), (0.0, False), (3e-5, True), (2e-4, False)])
def test_an_end_that_shows_as_zero_was_significant_in_older_files_and_is_not_now(low, either):
    assert (contradicts(True, low), contradicts(False, low)) == ((False, False) if either else (low <= 0, low > 0))
