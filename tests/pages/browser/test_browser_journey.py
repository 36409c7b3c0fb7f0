"""The whole journey on the demo model, as one visitor makes it; every value is held against the run's files on disk."""

import json
import math
import re
import resource
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from safetensors.numpy import load_file

from tests.pages.browser import walk
from tests.pages.browser.walk import LONG, ROOT, SHORT, chart, drawn, go, metrics, soon, status_bar

pytestmark = [pytest.mark.browser, pytest.mark.slow]
OPENING = 2  # times the processor time of the imports alone, from the server's start to a loaded demo model
IMPORTS = "import torch, streamlit.web.cli, plotly.graph_objects, pandas; from transformers import LlamaForCausalLM"
ANSWER = 2  # seconds of one core within which Cancel answers
DRAWN_TO = 0.002  # hands have three digits
ADDRESS = 'search={"steps":120}'
MIDDLE = 30  # candidates after which the search waits to be cancelled
SAID = re.compile(r"^(Significant gain: |No significant gain: keep identity)")


def seconds_of(code):
    """Processor time of a Python that runs this and nothing else."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_whole_journey_on_the_demo_model(dashboard, visit):
    page = visit()
    page.goto(f"{dashboard.address}/?{ADDRESS}")
    walk.load_demo(page)
    assert dashboard.cpu_seconds() < OPENING * seconds_of(IMPORTS)
    assert page.title() == "Q-ROAR"
    start_says_what_the_checkpoint_is(page)
    the_clocks_turn(page)
    diagnosis = diagnose(page, dashboard)
    a_clicked_cell_shows_its_tails(page, diagnosis)
    noise_is_what_was_measured(page, diagnosis)
    said = search_cancel_resume(page, visit, dashboard)
    apply_and_undo(page)
    numbers = evaluate(page, dashboard)
    export(page, visit, dashboard)

    ran = dashboard.jobs()
    page.reload()
    comes_back(page, said, numbers)
    second = visit()
    second.goto(page.url)
    comes_back(second, said, numbers)
    assert dashboard.jobs() == ran

    where = urlsplit(page.url)
    assert where.path == "/evaluate"
    dashboard.stop()
    dashboard.start()
    fresh = visit()
    fresh.goto(f"{dashboard.address}{where.path}?{where.query}")  # a page of a server that nobody has visited yet
    fresh.get_by_text("This link needs the model").wait_for(timeout=SHORT)
    fresh.get_by_role("button", name="Load demo").click()
    comes_back(fresh, said, numbers)
    assert dashboard.jobs() == [*ran, "Load demo"]


def start_says_what_the_checkpoint_is(page):
    config = walk.read_json(ROOT / "assets" / "demo", "config.json")
    soon(
        page,
        lambda: {**metrics(page), "Tokens that fit": "", "Parameters": ""},
        {
            "Parameters": "",
            "Layers": f"{config['num_hidden_layers']}",
            "Heads / KV heads": f"{config['num_attention_heads']} / {config['num_key_value_heads']}",
            "head_dim / rotary": f"{config['head_dim']} / {config['head_dim']}",
            "Native window": f"{config['max_position_embeddings']}",
            "Tokens that fit": "",
        },
    )
    tensors = load_file(ROOT / "assets" / "demo" / "model.safetensors")
    assert metrics(page)["Parameters"] == f"{sum(t.size for t in tensors.values()) / 1e6:.3g} M"


def the_clocks_turn(page):
    """Hands of the key stand at omega m: before and after the slider is moved, and while the clocks play."""
    go(page, "Learn")
    soon(page, lambda: off(page, 300) < DRAWN_TO, True)
    slider = page.get_by_role("slider", name="Position of the key, tokens")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    soon(page, lambda: off(page, 305) < DRAWN_TO, True)
    play = chart(page, "learn clocks").locator(".updatemenu-button").first
    play.click()
    page.wait_for_timeout(1500)
    chart(page, "learn clocks").locator(".updatemenu-button").nth(1).click()
    page.wait_for_timeout(500)
    words = drawn(page, "learn clocks")[3]["text"][0]
    at = int(re.search(r"key at position (\d+)", words).group(1))
    assert 305 < at < 365
    assert off(page, at) < DRAWN_TO


def off(page, position):
    """How far the key's hand on the worst clock is from (cos, sin) of omega m, by definition; pairs of Llama 2's 64."""
    key = drawn(page, "learn clocks")[1]
    hands = [(key["x"][i + 1] - key["x"][i], key["y"][i + 1]) for i in range(0, len(key["x"]), 3)]
    angles = [position * 10_000 ** (-2 * i / 128) for i in (0, 13, 25, 38, 50, 63)]
    return max(math.dist(hand, (math.cos(a), math.sin(a))) for hand, a in zip(hands, angles, strict=True))


def written(values):
    """What a result file holds: six digits of each number."""
    return pytest.approx(values, rel=1e-5)


def diagnose(page, dashboard):
    go(page, "Pressure")
    for words in ("demo", "YaRN ×4", "K int4 per token", "1024 tokens", "weights as loaded", "Rescaling can act here"):
        assert words in status_bar(page).inner_text()
    page.get_by_role("button", name="Diagnose", exact=True).click()
    chart(page, "unseen-phases").wait_for(timeout=LONG)
    diagnosis = walk.read_json(walk.the_run(dashboard.runs), "diagnosis.json")
    bands = diagnosis["bands"]
    plain, moved, *beside = drawn(page, "pressure-by-band")
    assert plain["y"] == written([band["interpolation_pressure"] for band in bands])
    assert moved["y"] == written([band["logit_change"] for band in bands])
    null, bound = (next(t for t in beside if t["name"] == name) for name in ("null: random signs", "upper bound"))
    assert null["y"] == written(diagnosis["logit_change"]["null"])
    assert bound["y"] == written([band["logit_weighted_pressure"] for band in bands])
    return diagnosis


def a_clicked_cell_shows_its_tails(page, diagnosis):
    go(page, "Tails")
    layer, band, bands = 0, 3, len(diagnosis["bands"])
    tails = diagnosis["tails"]["k/post"]
    ratios = [head[band] for head in tails["ratio"][layer]]
    head = ratios.index(max(ratios))
    low, high = (tails[side][layer][head][band] for side in ("low", "high"))
    chart(page, "tails").locator(".main-svg").first.wait_for(timeout=SHORT)
    walk.click_at(page, "tails", (band + 0.5) / bands, layer)
    page.get_by_role(
        "heading",
        name=f"K after RoPE, layer {layer}, head {head}, band {band}: tail {ratios[head]:.2f} "
        f"× short context [{low:.2f}, {high:.2f}]",
    ).wait_for(timeout=SHORT)
    for menu, value in (("Layer", layer), ("KV head", head), ("Band", band)):
        assert page.get_by_role("combobox", name=menu, exact=True).input_value() == str(value)
    long_curve = drawn(page, "survival")[0]
    for value in filter(None, diagnosis["survival"]["k/post"]["long"][layer][head][band]):
        assert any(x == written(value) for x in long_curve["x"])


def noise_is_what_was_measured(page, diagnosis):
    go(page, "Noise")
    shown = drawn(page, "noise-by-position")
    assert shown[0]["y"] == written(diagnosis["logit_noise"]["rms"])
    assert shown[1]["y"] == written(diagnosis["logit_noise"]["attention_kl"])


def search_cancel_resume(page, visit, dashboard):
    """Start, cancel in the middle, keep the best, resume beside a second tab; returns what the search says."""
    go(page, "Tune")
    with dashboard.holding(MIDDLE):
        walk.press(page, "Start the search")
        page.get_by_text(re.compile(r"Best of \d+ candidates so far")).wait_for(timeout=LONG)
        asked = dashboard.cpu_seconds()
        page.get_by_role("button", name="Cancel").first.click()
        page.get_by_text(re.compile("Tune demo: (cancelled|stopping)")).first.wait_for(timeout=SHORT)
        assert dashboard.cpu_seconds() - asked < ANSWER
        kept = page.get_by_text("Best so far kept, its gain not measured")
        kept.wait_for(timeout=SHORT)
    box = page.get_by_test_id("stAlert").filter(has_text="Best so far kept").inner_text()
    lower = float(re.search(r"by (-?[\d.]+)%", box).group(1))
    walk.unfold(page, "candidate by candidate")
    best = min(drawn(page, "trace")[1]["y"])  # the line of the best so far
    assert lower / 100 > 1 - best - 0.0051  # identity is 1; at the stop the last iterate is measured exactly, too
    assert not (walk.the_run(dashboard.runs) / "search.json").exists()  # nothing unproven on disk

    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Cancel").first.wait_for(timeout=SHORT)
    second = visit()
    second.goto(page.url)
    for tab in (second, page):
        tab.get_by_test_id("stAlert").get_by_text(SAID).wait_for(timeout=LONG)
    second.close()
    assert [job for job in dashboard.jobs() if job.startswith("Tune")] == ["Tune demo", "Tune demo"]

    run = walk.the_run(dashboard.runs)
    report, found = walk.read_json(run, "search.json"), walk.read_json(run, "scales_found.json")
    said = page.get_by_test_id("stAlert").get_by_text(SAID).inner_text()
    assert said.lower().startswith(report["reason"].lower())
    assert report["objective_found"] <= best + 1e-6
    g = [head for layer in found["g"] for head in layer]
    shown = drawn(page, "scales")[0]["z"]
    assert len(shown) == len(g)
    for row, wanted in zip(shown, g, strict=True):
        assert [2**z for z in row] == pytest.approx(wanted, rel=1e-3)
    return said


def apply_and_undo(page):
    page.get_by_role("button", name="Apply").click()
    status_bar(page).get_by_text("scales applied").wait_for(timeout=SHORT)
    page.get_by_text("tuned scales applied").wait_for(timeout=SHORT)
    go(page, "Noise")
    status_bar(page).get_by_text("scales applied").wait_for(timeout=SHORT)
    go(page, "Tune")
    page.get_by_role("button", name="Undo").click()
    status_bar(page).get_by_text("weights as loaded").wait_for(timeout=SHORT)


def evaluate(page, dashboard):
    """Returns the metric boxes of the evaluation."""
    go(page, "Evaluate")
    walk.press(page, "Evaluate")
    page.get_by_role("heading", name="How well is held-out text predicted").wait_for(timeout=LONG)
    run = walk.the_run(dashboard.runs)
    found = walk.read_json(run, "evaluation.json")
    longest = max(row["length"] for row in found["rows"])
    ppl = {(r["model"], r["scales"]): f"{r['ppl']:.3f}" for r in found["rows"] if r["length"] == longest}
    wanted = {
        "PPL, reference": ppl["reference", "identity"],
        "PPL, quantized": ppl["quantized", "identity"],
        "PPL, quantized, tuned": ppl["quantized", "tuned"],
    }
    if found["gain"]["significant"]:  # else no large figure
        wanted["NLL gap recovered"] = f"{found['gap_recovered']:.0%}"
    soon(page, lambda: metrics(page), wanted)
    gain = found["gain"]
    box = page.get_by_test_id("stAlert").filter(has_text="nats").first.inner_text()
    assert box.lower().startswith("significant gain" if gain["significant"] else "no significant gain: keep identity")
    assert [float(x) for x in re.findall(r"[+-]\d\.\d{4}", box)[:3]] == [
        round(gain[name], 4) for name in ("delta_nll", "ci_low", "ci_high")
    ]
    return wanted


def export(page, visit, dashboard):
    run, home = walk.the_run(dashboard.runs), dashboard.home
    found = walk.read_json(run, "scales_found.json")
    go(page, "Export")
    page.get_by_role("combobox", name="Scales to export").click()
    page.get_by_role("option", name="tuned scales").click()
    page.get_by_text("In the search:").wait_for(timeout=SHORT)
    walk.settle(page)
    content = json.loads(downloaded(page, "Download scales.json").read_text())
    for name in ("format", "version", "model", "mode", "granularity", "bands", "g"):
        assert content[name] == found[name], name
    assert any(g != 1 for layer in content["g"] for head in layer for g in head)

    page.get_by_label("New folder").fill(str(home / "checkpoint"))
    page.get_by_role("button", name="Write the checkpoint").click()
    page.get_by_text("Plain transformers loads it").wait_for(timeout=SHORT)
    the_weights_carry_the_scales(home / "checkpoint", content)
    the_report_opens_offline(visit, downloaded(page, "Download report.html"), walk.read_json(run, "evaluation.json"))
    go(page, "Evaluate")


def downloaded(page, name):
    with page.expect_download(timeout=SHORT) as download:
        page.get_by_role("button", name=name).click()
    assert download.value.suggested_filename == name.removeprefix("Download ")
    return download.value.path()


def the_weights_carry_the_scales(folder, content):
    """k divided and q multiplied by g, both channels of a pair (i, i + r/2), in every layer and KV head."""
    rope = walk.read_json(folder, "config.json")["rope_parameters"]
    assert (rope["rope_type"], rope["factor"]) == ("yarn", 4.0)
    before, after = load_file(ROOT / "assets" / "demo" / "model.safetensors"), load_file(folder / "model.safetensors")
    dim, kv_heads = content["model"]["head_dim"], content["model"]["kv_heads"]
    for layer, heads in enumerate(content["g"]):
        for head, row in enumerate(heads):
            for (first, last), g in zip(content["bands"], row, strict=True):
                rows = [head * dim + i + half for i in range(first, last + 1) for half in (0, dim // 2)]
                key = f"model.layers.{layer}.self_attn.k_proj.weight"
                assert abs(after[key][rows] * g - before[key][rows]).max() < 1e-5
                key = f"model.layers.{layer}.self_attn.q_proj.weight"
                wide = before[key].shape[0] // kv_heads  # rows of the query heads that share this KV head
                asked = [head * wide + query + i - head * dim for query in range(0, wide, dim) for i in rows]
                assert abs(after[key][asked] / g - before[key][asked]).max() < 1e-5


def the_report_opens_offline(visit, path, evaluation):
    page = visit()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.route(re.compile("^https?:"), lambda route: route.abort())
    report = path.with_suffix(".html")
    report.write_bytes(path.read_bytes())
    page.goto(report.as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=LONG)
    assert all(not url.startswith("http") for url in asked), asked
    gain = evaluation["gain"]
    assert f"{gain['delta_nll']:+.4f} nats [{gain['ci_low']:+.4f}, {gain['ci_high']:+.4f}]" in page.inner_text("body")
    bars = page.evaluate("() => [...document.querySelectorAll('.js-plotly-plot')].filter(e => e.data?.length).length")
    assert bars > 15
    page.close()


def comes_back(page, said, numbers):
    """The evaluation under this address, and the search on its page, without asking for anything anew."""
    page.get_by_role("heading", name="How well is held-out text predicted").wait_for(timeout=SHORT)
    soon(page, lambda: metrics(page), numbers)
    go(page, "Tune")
    page.get_by_test_id("stAlert").get_by_text(SAID).wait_for(timeout=SHORT)
    assert page.get_by_test_id("stAlert").get_by_text(SAID).inner_text() == said
    go(page, "Evaluate")
