"""A model on an accelerator, by tensors that know where they are: nothing meets across devices, nothing waits."""

from dataclasses import replace

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import BadSpec, OutOfMemory
from qroar_core.evidence.prediction import run as predict
from qroar_core.exporters import hf
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.device_map import spread
from qroar_core.models.devices import choose_devices, device_names
from qroar_core.models.load import run as load_model
from qroar_core.models.memory import length_that_fits
from qroar_core.models.text import Document
from qroar_core.models.window_losses import measure
from qroar_core.remedies import run as compare
from qroar_core.retrieval import run as retrieve
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import (
    BandSpec,
    ComparisonSpec,
    DiagnosisSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    RetrievalSpec,
    RopeSpec,
    SearchSpec,
    WeightQuantSpec,
)
from tests.models.families_table import CASES, VOCAB, loaded_of
from tests.models.placed import ONE, TWO, Placed, placed, put

pytestmark = pytest.mark.slow

YARN = RopeSpec("yarn", 2.0)
K4V4 = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))


def writing(seed):
    """Words of a tiny language, so that windows differ and repeat."""
    draw = torch.randint(0, 6, (600,), generator=torch.Generator().manual_seed(seed))
    return " ".join(["the", "quick", "fox", "jumps", "over", "dogs"][i] for i in draw.tolist())


TEXTS = {name: [Document(name, writing(seed))] for seed, name in enumerate(("calibration", "development", "heldout"))}


@pytest.fixture
def there(tiny):
    """`there()` -> a tiny model on `meta:0`, to be called inside `placed()`."""

    def build(**options):
        loaded = tiny(**options)
        put(loaded.model, ONE)
        loaded.device = ONE
        return loaded

    return build


def test_the_machine_refuses_what_a_gpu_refuses():
    with placed() as machine:
        x, y = torch.arange(6.0, device=ONE), torch.ones(6, device=TWO)
        for wrong in (lambda: x + y, lambda: x + torch.ones(6), lambda: torch.ones(6)[x.long()]):
            with pytest.raises(RuntimeError, match="tensors on"):
                wrong()
        assert (x[torch.tensor([1, 2])] * 2).cpu().tolist() == [2.0, 4.0]
        assert (x.to(TWO) + y + torch.tensor(1.0)).device == TWO
        z = torch.zeros(3, 2, device=ONE)
        z[:, 1] = x[:3]
        z += 1
        assert z.cpu().tolist() == [[1, 1], [1, 2], [1, 3]]
        held = torch.nn.Parameter(Placed(torch.ones(2), ONE), requires_grad=False)
        held.data = torch.full((2,), 5.0, device=ONE)
        assert (held + 0).cpu().tolist() == [5.0, 5.0]
    assert not machine.waits  # none of these lines is the core's


def test_measuring_waits_once_a_window_however_many_chunks(tiny, there, ids):
    text = ids(2, 96)
    expected = measure(tiny(), Condition(YARN, K4V4), text, 90, chunk=32).nll
    for chunk in (32, 8):
        with placed() as machine:
            found = measure(there(), Condition(YARN, K4V4), text, 90, chunk=chunk).nll
        assert torch.allclose(found, expected, atol=2e-5)
        asked = [n for line, n in machine.waits.items() if "finite.py" in line]
        assert asked == [1]  # was all of it finite?
        assert sum(machine.waits.values()) == 2, machine.waits


@pytest.fixture(params=["one device", "two devices"])
def placements(request, tiny):
    """A function that puts a tiny model on `meta:0`, or its layers on `meta:0` and `meta:1` as accelerate does."""

    def build(**options):
        loaded = tiny(**({"layers": 4} | options))
        if request.param == "one device":
            put(loaded.model, ONE)
        else:
            spread(loaded.model, [ONE, TWO])
            assert set(loaded.devices()) == {ONE, TWO}
        loaded.device = ONE
        return loaded

    return build


CONDITIONS = {
    "blocks before RoPE and a residual": QuantSpec(
        k=QuantizerSpec(2, "channel", "affine", 32, before_rope=True, residual=32),
        v=QuantizerSpec(2, "block", "affine", 16, residual=32),
    ),
    "static scales of K, q and k": QuantSpec(
        k=QuantizerSpec(8, "tensor", levels="e4m3"), qk=QuantizerSpec(8, "tensor", levels="e4m3")
    ),
    "a rotation, weights and inputs": QuantSpec(
        WeightQuantSpec(4, "group", 16), QuantizerSpec(4, rotation="hadamard"), activations=QuantizerSpec(8)
    ),
}


@pytest.mark.parametrize("quant", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize("tied", [False, True], ids=["head apart", "head tied"])
def test_every_quantizer_computes_where_its_layer_is(tiny, placements, ids, quant, tied):
    text, options = ids(2, 96), {"tie_word_embeddings": tied, "dtype": torch.float64, "layers": 4}

    def nll(loaded):
        reference = measure(loaded, Condition(YARN), text, 90, chunk=32).nll
        condition = calibrated(loaded, Condition(YARN, quant), text[:1])
        return torch.stack([reference, measure(loaded, condition, text, 90, chunk=32).nll])

    expected = nll(tiny(**options))
    with placed():
        found = nll(placements(**options))
    assert torch.allclose(found, expected, atol=1e-6)  # static ranges are float32
    assert (expected[0] - expected[1]).abs().max() > 0.01


@pytest.mark.parametrize("objective", ["cached", "kl", "full"])
def test_a_search_finds_there_what_it_finds_here(tiny, placements, objective):
    spec = SearchSpec(
        bands=BandSpec(4),
        length=96,
        windows=2,
        steps=6,
        query_rows=16,
        objective=objective,
        angles=objective != "full",
        polish_steps=3,
        polish_windows=2,
        polish_length=48,
        trials=4,
    )
    here = search.run(tiny(layers=4), Setting(YARN, K4V4, search=spec), TEXTS)
    with placed():
        there = search.run(placements(), Setting(YARN, K4V4, search=spec), TEXTS)
    assert torch.allclose(there.found.point, here.found.point, atol=1e-3)
    assert there.report.objective_found == pytest.approx(here.report.objective_found, abs=1e-4)
    assert not here.found.is_identity


def test_a_gradient_step_waits_once_a_device(placements):
    spec = SearchSpec(bands=BandSpec(4), length=96, windows=2, steps=2, query_rows=16, angles=True)
    waited = []
    with placed() as machine:
        loaded = placements()
        for steps in (2, 6):
            machine.waits.clear()
            search.run(loaded, Setting(YARN, K4V4, search=replace(spec, steps=steps)), TEXTS)
            waited.append(sum(machine.waits.values()))
    devices = len(set(loaded.devices()))
    assert waited[1] - waited[0] == 4 * 2 * devices  # the slopes, and the errors they are reported with


def test_hidden_numbers_are_found_there_as_here(tiny, placements):
    spec = RetrievalSpec(lengths=(192,), depths=(0.5,), trials=2, tasks=("passkey",))
    here = retrieve.run(tiny(layers=4), Setting(YARN, K4V4), None, spec, TEXTS["heldout"])
    with placed():
        there = retrieve.run(placements(), Setting(YARN, K4V4), None, spec, TEXTS["heldout"])
    assert len(there.cells) == len(here.cells)
    for a, b in zip(there.cells, here.cells, strict=True):
        assert a.log_prob == pytest.approx(b.log_prob, abs=1e-3)


def test_a_spread_model_is_written_and_loaded_again(tiny, placements, tmp_path):
    expected = tiny()
    with placed():
        hf.run(placements(layers=2), RopeSpec(), None, tmp_path / "out")
    again = load_model(str(tmp_path / "out"), device="cpu", dtype="float32")
    assert again.fingerprint == expected.fingerprint


def test_no_room_names_the_length_that_every_device_holds(placements, monkeypatch):
    monkeypatch.setattr("qroar_core.models.memory.free_bytes", lambda device: {ONE: 2**20, TWO: 2**19}[device])
    with placed():
        loaded = placements()
    token = 2 * 2 * 16 * 4  # K and V, heads, channels, bytes: of one layer
    on_two = loaded.devices().count(TWO)
    assert length_that_fits(loaded) == int(0.9 * min(2**20 / (4 - on_two), 2**19 / max(on_two, 1e-9)) / token)


def test_balanced_needs_gpus_and_asks_for_all_of_them(monkeypatch):
    with pytest.raises(BadSpec, match="balanced spreads a model over GPUs, this machine has 0"):
        choose_devices("balanced")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_devices("balanced") == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert device_names()[:3] == ["balanced", "cuda:0", "cuda:1"]
    with pytest.raises(BadSpec, match="cuda:2 is not available here, it has 2"):
        choose_devices("cuda:2")


def test_weights_that_no_gpus_hold_are_refused(tiny, monkeypatch):
    monkeypatch.setattr("qroar_core.models.device_map.free_bytes", lambda device: 40_000)
    with pytest.raises(OutOfMemory, match="meta:0 and meta:1: the weights do not fit"):
        spread(tiny().model, [ONE, TWO])


def test_rivals_stand_there_as_here(tiny, placements):
    quant = QuantSpec(WeightQuantSpec(3, "group", 16), QuantizerSpec(3), activations=QuantizerSpec(4))
    search_spec = SearchSpec(bands=BandSpec(4), length=96, windows=1, steps=2, query_rows=8)
    spec = ComparisonSpec(
        ("smooth_attention", "awq", "gptq", "smoothquant"),
        search=search_spec,
        windows=2,
        calibration_windows=1,
        chunk=32,
        band_scales=False,
    )
    here = compare.run(tiny(layers=4, dtype=torch.float64), Setting(YARN, quant), spec, TEXTS)
    with placed():
        there = compare.run(placements(dtype=torch.float64), Setting(YARN, quant), spec, TEXTS)
    for a, b in zip(there.rows, here.rows, strict=True):
        assert a.window_nll == pytest.approx(b.window_nll, abs=1e-4), a.method
    assert len({row.nll for row in here.rows}) == 5


def test_bands_alone_cost_there_what_they_cost_here(tiny, placements):
    spec = PredictionSpec(length=96, windows=2, grid_windows=1, grid_length=64)
    asked = DiagnosisSpec(length=96, short_length=32, paired_tokens=16, bands=BandSpec(4), chunk=32)

    def predicted(loaded):
        diagnosis = diagnose.run(
            loaded, Setting(YARN, QuantSpec(k=QuantizerSpec(4)), diagnosis=asked), TEXTS["calibration"]
        )
        return predict.run(loaded, Setting(YARN, QuantSpec(k=QuantizerSpec(4))), spec, TEXTS["heldout"], diagnosis)

    here = predicted(tiny(layers=2, dtype=torch.float64))
    with placed():
        there = predicted(placements(layers=2, dtype=torch.float64))
    assert [p.nll for p in there.parts] == pytest.approx([p.nll for p in here.parts], abs=1e-5)
    assert [len(row) for row in there.kl] == [len(row) for row in here.kl]  # an accelerator draws other targets
    assert max(map(max, there.kl)) > 0


@pytest.mark.parametrize("family", [name for name, case in CASES.items()])
def test_every_family_computes_on_two_devices_what_it_computes_here(family, byte_tokenizer, tokenizer_folder, ids):
    def nll(*devices):
        loaded = loaded_of(CASES[family], byte_tokenizer, tokenizer_folder)
        if devices:
            spread(loaded.model, devices)
            loaded.device = ONE
        return measure(loaded, Condition(RopeSpec(), QuantSpec(qk=QuantizerSpec(6))), text, 40, chunk=16).nll

    text = ids(1, 48) % VOCAB
    expected = nll()
    with placed():
        assert torch.allclose(nll(ONE, TWO), expected, atol=1e-5)
