"""The examples of docs/extending.md: each, dropped into a copy of the package, is in every list and measured."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"^`(qroar_core/\S+)`\n\n```python\n(.*?)```$", re.M | re.S)
EXAMPLES = dict(EXAMPLE.findall((ROOT / "docs" / "extending.md").read_text()))
EVALUATE = ["evaluate", "demo", "--lengths", "512", "--windows", "2", "--rope", "yarn", "--factor", "4", "--json"]
LEVELS_MENU = """
from pages.forms import quantizer
print({name: levels.label for name, levels in quantizer.GRIDS.items()})
"""


@pytest.fixture
def with_file(tmp_path, forks):
    """Makes a copy of the package with the files of one example in it; runs Python there and returns what it prints."""
    for name in ("qroar_core", "pages"):
        unfinished = shutil.ignore_patterns("*.pyc.*")  # another process compiles it just now
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unfinished)
    for name in ("assets", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)

    def dropped(*paths):
        for path in paths:
            assert not (tmp_path / path).exists()
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(EXAMPLES[path])

        def run(*words):
            done = forks.run([*words], tmp_path, tmp_path)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    return dropped


@pytest.mark.slow
def test_an_interpolation(with_file):
    run = with_file("qroar_core/interpolations/methods/cooler_yarn.py")
    assert "cooler_yarn" in run("-m", "qroar_core", "diagnose", "--help")
    menu = "from pages.views.replication import ONE_FACTOR; from pages.forms.setting import interpolation_methods; "
    menu += "print(ONE_FACTOR, interpolation_methods()); from docs.tables import interpolations_table as table; "
    shown = run("-c", menu + "print(table())")
    assert shown.splitlines()[0].count("cooler_yarn") == 2
    formula = "omega_i (gamma_i + (1 - gamma_i)/s) | -(1 - gamma_i) omega_i / s | 1"
    assert f"| `cooler_yarn` | YaRN without temperature | {formula} |" in shown.splitlines()
    searched = run("-c", "from docs.tables import searched_interpolations_table as table; print(table())")
    assert "| `cooler_yarn` | none: it is tried as it is |  |" in searched.splitlines()
    cooler = json.loads(run("-m", "qroar_core", *EVALUATE[:7], "cooler_yarn", *EVALUATE[8:], "--k=int8"))
    plain = json.loads(run("-m", "qroar_core", *EVALUATE, "--k=int8"))
    assert cooler["rows"][0]["nll"] != plain["rows"][0]["nll"]
    pressures = """
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.interpolations.pressure_of_methods import pressures
from qroar_core.models.load import run
from qroar_core.specs import BandSpec, RopeSpec
found = {m.method: m for m in pressures(run("demo"), RopeSpec("yarn", 4.0), 4.0, 1024, "causal", BandSpec(4)).methods}
print(found["cooler_yarn"].band_pressure == found["yarn"].band_pressure, found["cooler_yarn"].factor)
print(*(rope_of(run("demo"), RopeSpec(name, 4.0), 1024).attention_factor for name in ("cooler_yarn", "yarn")))
"""
    assert run("-c", pressures).split() == ["True", "4.0", "1.0", str(0.1 * math.log(4) + 1)]


SEED_OSS = """
import sys, torch, transformers
folder = sys.argv[1]
torch.manual_seed(0)
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[2])
sizes = {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64}
sizes |= {"initializer_range": 0.3}
model = transformers.SeedOssForCausalLM(transformers.SeedOssConfig(**sizes)).double().eval()
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
import qroar_core as qroar
from qroar_core.interpolations.bands import partition
from qroar_core.models.stream import Condition
from qroar_core.models.window_losses import measure
from qroar_core.specs import BandSpec, RopeSpec
from qroar_core.transforms.scales import identity
loaded = qroar.load(folder, dtype="float64")
ids = torch.randint(3, 300, (1, 48))
with torch.no_grad():
    losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
scales = identity(2, 2, ((0, 3), (4, 7)), "symmetric", "kv_head")
scales.g.copy_(1 + torch.rand_like(scales.g))
apart = [measure(loaded, Condition(RopeSpec(), scales=s), ids, 47).nll[0].double() - losses for s in (None, scales)]
print(loaded.geometry.family, *(float(difference.abs().max()) < 1e-9 for difference in apart))
"""


@pytest.mark.slow
def test_a_rope_family(with_file, tmp_path):
    run = with_file("qroar_core/models/families/seed_oss.py")
    assert run("-c", SEED_OSS, str(tmp_path / "seed"), str(ROOT / "assets" / "demo")).split() == [
        "seed_oss",
        *["True"] * 2,
    ]
    said = run("-m", "qroar_core", "info", str(tmp_path / "seed"))
    assert "seed_oss" in said
    tables = """
from benchmarks import families
(found,) = [family for family in families.FAMILIES if family.name == "seed_oss"]
print(*families.described(families.small(found)))
from docs.tables import families_table
print(families_table())
"""
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    shown = run("-c", tables)
    assert shown.startswith("seed_oss half all channels none kv_head")
    row = "| seed_oss | `SeedOssForCausalLM` | `transformers/models/seed_oss/modeling_seed_oss.py` |"
    assert row in shown.splitlines()


@pytest.mark.slow
def test_a_quantizer_preset(with_file):
    run = with_file("qroar_core/quantizers/presets/my_runtime.py")
    mine = json.loads(run("-m", "qroar_core", *EVALUATE, "--kv", "mine5"))
    options = ["--kv", "int5", "--kv-scale", "block", "--group-size", "16"]  # the same with scales in float32
    near = json.loads(run("-m", "qroar_core", *EVALUATE, *options))
    quantized = [row["nll"] for found in (mine, near) for row in found["rows"] if row["model"] == "quantized"][::2]
    assert quantized[0] != quantized[1]
    assert abs(quantized[0] - quantized[1]) < 0.02
    menu = "from pages.forms import quantization; print(quantization.__dict__)"
    assert "mine5" in run("-c", menu)
    rows = run("-c", "from docs.tables import presets_table; print(presets_table())").splitlines()
    assert any(row.startswith("| `mine5` | --cache int5 | 5 bits, a scale per 16 channels |") for row in rows)
    library = "import qroar_core; print(qroar_core.quantization(kv='mine5'))"
    assert run("-c", library).strip().endswith("name='mine5')")


@pytest.mark.slow
def test_a_grid_of_levels(with_file):
    run = with_file("qroar_core/quantizers/grids/powers.py")
    assert "'powers': 'power of two'" in run("-c", LEVELS_MENU)
    rounded = """
import json, torch
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.specs import QuantizerSpec
torch.manual_seed(0)
x = torch.randn(5, 64, dtype=torch.float64)
print(json.dumps([x.tolist(), fake_quantize(x, QuantizerSpec(4, levels="powers")).tolist()]))
"""
    for x, found in zip(*json.loads(run("-c", rounded))):
        step = 2.0 ** math.ceil(math.log2(max(map(abs, x)) / 7))
        assert found == [step * round(v / step) for v in x]  # ties to even, as Python rounds too


DIAGNOSED = """
import json, sys
import torch
import qroar_core as qroar
from qroar_core.diagnostics.key_norms.result import KeyNorms
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import windows
from qroar_core.specs import BandSpec, DiagnosisSpec, RopeSpec
model, setup = qroar.load("demo"), qroar.Setup(rope=qroar.Rope(), quantization=qroar.quantization(k="int4"))
spec = DiagnosisSpec(length=256, short_length=64, windows=2, bands=BandSpec(4), position_bins=5)
qroar.diagnose(model, setup, spec=spec).save(sys.argv[1])
found = qroar.Diagnosis.load(sys.argv[1])
kept = {}
class Keep:
    def on_attention(self, tap): kept[tap.layer] = tap.k_seen.clone()
    def on_layer(self, *_): pass
ids = windows(model.tokenizer, setup.texts()["calibration"], 256, 1, spec.seed).ids
with open_stream(model, Condition(RopeSpec()), 256, chunk=256) as stream:
    list(stream.run(ids, [Keep()]))
norms = torch.stack([kept[layer] for layer in sorted(kept)]).double().norm(dim=-1)  # (layers, KV heads, tokens)
print(json.dumps([norms.tolist(), found.position_edges, found.other(KeyNorms).length]))
print(found.plot("key_norms").layout.title.text)
"""
SHOWN = """
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.gallery import diagnosed
print([picture.title for picture in diagnosed(Diagnosis.from_file(Path(sys.argv[1])))])
page = f'''
from pathlib import Path
from pages.views.rest_of_page import rest_of_page
from qroar_core.diagnostics.result import Diagnosis
rest_of_page("Tails", Diagnosis.from_file(Path({sys.argv[1]!r})))
'''
app = AppTest.from_string(page, default_timeout=60).run()
assert not app.exception, app.exception
print([one.value for one in (*app.header, *app.subheader)])
print({*app.dataframe[-1].value["diagnostic"]})
"""


@pytest.mark.slow
def test_a_diagnostic(with_file, tmp_path):
    run = with_file(
        "qroar_core/diagnostics/key_norms/__init__.py",
        "qroar_core/diagnostics/key_norms/result.py",
        "qroar_core/diagnostics/key_norms/measure.py",
        "qroar_core/diagnostics/key_norms/figure.py",
    )
    assert "key norms" in " ".join(run("-m", "qroar_core", "diagnose", "--help").split())
    file = str(tmp_path / "diagnosis.json")
    numbers, title = run("-c", DIAGNOSED, file).splitlines()
    norms, edges, found = json.loads(numbers)
    for heads, row in zip(norms, found, strict=True):
        bins = [[norm for head in heads for norm in head[a:b]] for a, b in zip(edges, edges[1:])]
        assert row == pytest.approx([math.sqrt(math.fsum(v * v for v in one) / len(one)) for one in bins], rel=1e-5)
    assert title.startswith("Keys are ")
    report, page, nulls = run("-c", SHOWN, file).splitlines()
    assert title in report
    assert page == f"['Key norms', '{title}']"
    assert "'Key norms'" in nulls
    asked = ["diagnose", "demo", "--length", "256", "--k", "int4", "--null"]
    said = run("-m", "qroar_core", *asked)
    assert "Key norms" in said
    assert "Keys are " in said
    table = run("-c", "from docs.build_api import diagnostics_table; print(diagnostics_table())")
    assert "| Key norms | Tails | `key_norms` |" in table.splitlines()
    (tmp_path / "qroar_core" / "diagnostics" / "key_norms").rename(tmp_path / "elsewhere")
    with pytest.raises(AssertionError, match="'key_norms' is no diagnostic of this installation"):
        run("-c", SHOWN, file)


SEARCH_MENUS = """
from pages.forms import search
print([*search.objectives()], [*search.search_methods()], [metric.label for metric in search.error_metrics().values()])
from docs import tables
print(tables.search_methods_table(), tables.objectives_table(), tables.error_metrics_table(), sep=chr(10))
"""
SEARCHED = """
import json
import qroar_core as qroar
from qroar_core.specs import BandSpec, SearchSpec
model = qroar.load("demo")
spec = SearchSpec(bands=BandSpec(4), length=256, windows=2, steps=6, trials=4, grid_points=3, **{asked!r})
found = qroar.search(model, qroar.Setup(quantization=qroar.quantization(k="int3")), spec=spec)
report = found.report
print(json.dumps([report.method, report.objective_identity, report.objective_found, [c.label for c in report.history]]))
"""


def searched(run, **asked):
    return json.loads(run("-c", SEARCHED.replace("{asked!r}", repr(asked))).splitlines()[-1])


@pytest.mark.slow
def test_an_attention_error_metric(with_file):
    run = with_file("qroar_core/maths/error_metrics/largest.py")
    assert "largest" in run("-m", "qroar_core", "search", "--help")
    menus = run("-c", SEARCH_MENUS)
    assert "'largest square error of a logit']" in menus
    row = "| `largest` | largest square error of a logit | max over the keys a row sees of (l^ - l)^2 |"
    assert row in menus.splitlines()
    mine, usual = searched(run, error_metric="largest"), searched(run, error_metric="logits")
    assert mine[1] == usual[1] == 1.0
    assert mine[2] < 1
    assert mine[2] != usual[2]
    lone = """
import torch
from qroar_core.maths.error_metric import MovedRows
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.maths.softmax_rule import USUAL_SOFTMAX
logits, apart = torch.tensor([[[[1.0, 5.0, 9.0]]]]), torch.tensor([[1, 0, -1]])  # the third key is not seen yet
none = torch.zeros(1, 1, 1)
moved = MovedRows(USUAL_SOFTMAX, logits, apart, none, none, None, none, lambda: logits - 2 * apart)
print(error_metrics()["largest"].error(moved))
"""
    assert run("-c", lone).strip() == "tensor([[4.]])"


@pytest.mark.slow
def test_a_search_method(with_file):
    run = with_file("qroar_core/scale_search/methods/shaken.py")
    assert "shaken" in run("-m", "qroar_core", "search", "--help")
    menus = run("-c", SEARCH_MENUS)
    assert "'optuna', 'shaken']" in menus
    assert "| `shaken` | random steps around the best so far | `steps` |" in menus.splitlines()
    method, before, after, labels = searched(run, method="shaken")
    assert method == "shaken"
    assert labels[-6:] == [f"shaken {step}" for step in range(1, 7)]
    assert after <= before == 1.0


@pytest.mark.slow
def test_a_search_objective(with_file):
    run = with_file("qroar_core/scale_search/objectives/worst.py")
    assert "worst" in run("-m", "qroar_core", "search", "--help")
    menus = run("-c", SEARCH_MENUS)
    assert "'kl', 'worst']" in menus
    assert "| `worst` | NLL of the development window that is predicted worst; " in menus
    method, worst, _, _ = searched(run, objective="worst", method="optuna")
    assert method == "optuna, on the worst window"
    windows = """
import qroar_core as qroar
from qroar_core.models.window_losses import measure
from qroar_core.models.stream import Condition
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.specs import SearchSpec
setup = qroar.Setup(quantization=qroar.quantization(k="int3"))
setting = setup.resolve(model := qroar.load("demo"))
problem = SearchProblem(model, setting.rope, setting.quant, SearchSpec(length=256, windows=2), setup.texts())
for ids in problem.development().ids:
    print(float(measure(model, Condition(setting.rope, setting.quant), ids[None], 255).nll.double().mean()))
"""
    assert worst == pytest.approx(max(map(float, run("-c", windows).split())), rel=1e-6)


@pytest.mark.slow
def test_a_runtime_that_reads_exports(with_file, tmp_path):
    run = with_file("qroar_core/exporters/readers/my_server.py")
    asked = ["-m", "qroar_core", "export", "demo", "--rope", "yarn", "--factor", "2", "--out", str(tmp_path / "out")]
    run(*asked)
    says = "My server 1.2 takes YaRN for linear interpolation: export with --rope ntk."
    assert f"\n- {says}\n" in (tmp_path / "out" / "README.md").read_text()
    assert says in " ".join(run("-m", "qroar_core", "verify", str(tmp_path / "out")).split())


@pytest.mark.slow
def test_a_remedy(with_file):
    run = with_file("qroar_core/remedies/methods/wider_keys.py")
    menu = """
from pages.forms.comparison import BY_NAME, applicable_remedies
from qroar_core.specs import QuantizerSpec, QuantSpec
print([BY_NAME[one.method].name for one in applicable_remedies(QuantSpec(k=QuantizerSpec(3)), ())])
"""
    assert "'one bit more for K']" in run("-c", menu)
    asked = ["compare", "demo", "--length", "256", "--windows", "3", "--no-band-scales", "--json", "--k"]
    found = json.loads(run("-m", "qroar_core", *asked, "int3", "--methods", "wider_keys"))
    plain, wider = found["rows"]
    assert (plain["method"], wider["method"]) == ("plain", "wider_keys")
    four = json.loads(run("-m", "qroar_core", *asked, "int4", "--methods", "rotation"))
    assert wider["window_nll"] == four["rows"][0]["window_nll"]  # int4 as it is


@pytest.mark.slow
def test_an_export_format(with_file, tmp_path):
    run = with_file("qroar_core/exporters/formats/wide.py", "qroar_core/exporters/wide.py")
    assert "hf-f32" in run("-m", "qroar_core", "export", "--help")
    menu = "from qroar_core import load; from qroar_core.exporters.writers import offered; print(offered(load('demo')))"
    assert "'hf-f32': 'Hugging Face folder, float32: transformers'" in run("-c", menu)
    folder = tmp_path / "wide"
    run("-m", "qroar_core", "export", "demo", "--format", "hf-f32", "--dtype", "float32", "--out", str(folder))
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert "FAIL" not in run("-m", "qroar_core", "verify", str(folder))
    table = run("-c", "from docs.tables import formats_table; print(formats_table())")
    assert "| `hf-f32` | Hugging Face folder, float32 | transformers | every kind |" in table.splitlines()


def test_every_example_is_tried_here():
    tried = Path(__file__).read_text()
    assert EXAMPLES
    assert [path for path in EXAMPLES if tried.count(f'"{path}"') != 1] == []
