"""Fakes for every test: tiny random models of each family, a byte tokenizer, a planted outlier, the demo.

No network. Tiny models come from the real config classes with the awkward sizes that real models have:
grouped queries, a head_dim that is not hidden_size / n_heads, biases that are not zero. Their weights are
large enough for attention to be far from uniform, so that a wrong logit shows.
"""

from __future__ import annotations

import functools
import gc
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import MethodType, SimpleNamespace

import pytest

VOCAB = 256  # one id a byte
HIDDEN = 48
WINDOW = 64  # native window L0 of the tiny models, tokens
TINY_FAMILIES = ("llama", "mistral", "qwen2")
STAGES = (  # modules whose `run` is a stage, in the package
    *("diagnostics", "scale_search", "evaluation", "retrieval", "harness", "remedies"),
    *("evidence.controls", "evidence.prediction", "evidence.replication", "rope_search"),
)
RUN_STAGES = (
    *("diagnostics", "scale_search", "evaluation", "retrieval", "harness", "remedies"),
    *("evidence", "exporters", "models"),
)
SLOW = ("smollm2", "browser", "slow")  # marks, the longest first


def pytest_collection_modifyitems(items):
    """Files with slow tests first: xdist hands files out whole, and the longest one last would leave a core idle."""
    rank: dict[Path, int] = {}
    for item in items:
        mine = next((at for at, mark in enumerate(SLOW) if item.get_closest_marker(mark)), len(SLOW))
        rank[item.path] = min(mine, rank.get(item.path, mine))
    items.sort(key=lambda item: rank[item.path])


def pytest_collection_finish():
    """What is there by now stays to the end: no need to look through a million objects for garbage again and again."""
    gc.freeze()


@pytest.fixture(scope="session")
def byte_tokenizer():
    """A real transformers tokenizer whose tokens are the 256 bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="session")
def tokenizer_folder(byte_tokenizer, tmp_path_factory) -> Path:
    """A folder holding the byte tokenizer's own files."""
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer.save_pretrained(folder)
    return folder


def _transformers_model(family: str, layers: int, head_dim: int, options: dict):
    import transformers

    name = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[family]
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "max_position_embeddings": WINDOW,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if family == "mistral":
        sizes["sliding_window"] = None
    config = getattr(transformers, f"{name}Config")(**(sizes | options))
    return getattr(transformers, f"{name}ForCausalLM")(config)


def _randomize(model, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.ndim == 2:
            noise *= 1.5 * parameter.shape[1] ** -0.5
        elif name.endswith("bias"):
            noise *= 0.5
        else:  # a norm's gain
            noise = 1 + 0.2 * noise
        parameter.data.copy_(noise)


def _wide_norm(self, x):
    """RMSNorm without transformers' detour through float32."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


@pytest.fixture
def tiny(byte_tokenizer, tokenizer_folder) -> Callable:
    """`tiny(family="llama", dtype=None, layers=2, head_dim=16, seed=0, **config)` -> LoadedModel.

    float64 models also compute their norms in float64, so oracles hold to 1e-12.
    """
    import torch

    from qroar_core.models.families import family_of
    from qroar_core.models.load import as_loaded
    from qroar_core.models.sources import Source

    def build(family="llama", dtype=None, layers=2, head_dim=16, seed=0, **options):
        model = _transformers_model(family, layers, head_dim, options)
        _randomize(model, seed)
        model.to(dtype or torch.float32)
        model.config.architectures = [type(model).__name__]
        if dtype == torch.float64:
            for module in model.modules():
                if type(module).__name__.endswith("RMSNorm"):
                    module.forward = MethodType(_wide_norm, module)
        found = Source(f"tiny-{family}", f"tiny-{family}", tokenizer_folder)
        model.set_attn_implementation("sdpa")
        adapter = family_of(model.config.architectures, found.label)
        return as_loaded(model, byte_tokenizer, adapter, found, torch.device("cpu"))

    return build


@pytest.fixture
def ids() -> Callable:
    """`ids(*shape, seed=0)` -> random token ids, int64."""
    import torch

    def draw(*shape, seed=0):
        return torch.randint(0, VOCAB, shape, generator=torch.Generator().manual_seed(seed))

    return draw


@dataclass(frozen=True)
class Planted:
    """A model with one outlier band, the same model without it, and what was done."""

    loaded: object
    plain: object
    bands: tuple[tuple[int, int], ...]
    layer: int
    kv_head: int
    band: int
    factor: float  # k of the band times this, q divided by it: symmetric g = factor in that band repairs it


@pytest.fixture
def planted(tiny) -> Callable:
    """`planted(layer=1, kv_head=0, band=2, factor=16.0, **tiny_options)` -> Planted.

    Full-precision logits are those of `plain`; a K quantizer whose scale the band shares suffers.
    """
    import torch

    def build(layer=1, kv_head=0, band=2, factor=16.0, head_dim=32, count=4, **options):
        bands = tuple((b * head_dim // 2 // count, (b + 1) * head_dim // 2 // count - 1) for b in range(count))
        loaded = tiny(head_dim=head_dim, **options)
        plain = tiny(head_dim=head_dim, **options)
        first, last = bands[band]
        pairs = torch.arange(first, last + 1)
        channels = torch.cat((pairs, pairs + head_dim // 2))  # half pairing
        attention = loaded.model.model.layers[layer].self_attn
        per_kv = loaded.geometry.queries_per_kv
        rows = kv_head * head_dim + channels
        query_rows = torch.cat([(kv_head * per_kv + j) * head_dim + channels for j in range(per_kv)])
        for projection, where, gain in ((attention.k_proj, rows, factor), (attention.q_proj, query_rows, 1 / factor)):
            projection.weight.data[where] *= gain
            if projection.bias is not None:
                projection.bias.data[where] *= gain
        return Planted(loaded, plain, bands, layer, kv_head, band, factor)

    return build


@pytest.fixture(scope="session")
def demo():
    """The embedded demo model, float32 on the CPU. Shared: undo what you apply."""
    from qroar_core.models.load import run as load_model

    return load_model("demo", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M, fetched when absent (mark the test `smollm2` and `slow`). Shared."""
    from qroar_core.models.load import run as load_model
    from qroar_core.models.smollm2 import fetch

    fetch()
    return load_model("smollm2", device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def readable(request, monkeypatch):
    """What a stage makes in a test of the core is also read again as a file is: no check of files refuses our own."""
    if request.path.relative_to(Path(__file__).parent).parts[0] not in RUN_STAGES:
        return
    for name in STAGES:
        stage = import_module(f"qroar_core.{name}.run")
        monkeypatch.setattr(stage, "run", _read_again(stage.run))


def _read_again(run):
    from qroar_core.result import Result
    from qroar_core.result_shapes import contradiction
    from qroar_core.scale_search.run import SearchOutcome

    @functools.wraps(run)
    def checked(*args, **options):
        made = run(*args, **options)
        result = made.report if isinstance(made, SearchOutcome) else made
        if isinstance(result, Result):
            assert contradiction(result.as_written()) == ""
        return made

    return checked


@pytest.fixture(scope="session")
def demo_model():
    """The demo model as `load` gives it to a page. Shared: `stages` takes scales off it again."""
    from qroar_core.models import load

    import_module("pages.server.preload").import_all()  # all of it: not within the time of the first page
    return load.run("demo", device="cpu")


@pytest.fixture
def stages(monkeypatch, demo_model, tmp_path_factory, quick_visits):
    """Stages that answer at once with planted results. A test replaces the one it is about."""
    import streamlit as st
    import torch

    from qroar_core.diagnostics import run as diagnose
    from qroar_core.evaluation import run as evaluate
    from qroar_core.models import load
    from qroar_core.models.patch import undo_scales
    from qroar_core.runs import agreement
    from qroar_core.scale_search import run as search
    from qroar_core.transforms.groups import groups_of, still_channels
    from qroar_core.transforms.scales import identity
    from tests.helpers import planted

    def fake_search(loaded, setting, texts, diagnosis=None, on_step=None, resume=None, storage=None, captures=None):
        pairs, count = loaded.geometry.n_pairs, setting.search.bands.count
        cuts = [round(i * pairs / count) for i in range(count + 1)]
        bands = tuple((a, b - 1) for a, b in zip(cuts, cuts[1:]))
        none = identity(
            loaded.geometry.n_layers, loaded.geometry.n_kv_heads, bands, setting.search.mode, setting.search.granularity
        )
        turned = torch.full((*none.g.shape[:2], pairs), 0.5, dtype=torch.float64) if setting.search.angles else None
        groups = groups_of(loaded.geometry, setting.rope) if setting.search.maps else ()
        units = [torch.ones((*none.g.shape[:2], group.numbers), dtype=torch.float64) / 2 for group in groups]
        maps = tuple(group.matrix(unit) for group, unit in zip(groups, units, strict=True))
        found = type(none)(none.mode, none.granularity, none.bands, none.g * 2, turned, groups=groups, maps=maps)
        if setting.search.k_offset:
            still = still_channels(loaded.geometry, setting.rope)[:, None].double()
            found = replace(found, k_offset=still.repeat(1, loaded.geometry.n_kv_heads, 1))
        return search.SearchOutcome(found, found, none, none, planted.searched(setting, count))

    monkeypatch.setenv("QROAR_RUNS", str(tmp_path_factory.mktemp("runs")))
    real_load = load.run
    monkeypatch.setattr(load, "run", lambda source, on_step=None, **kw: demo_model)
    monkeypatch.setattr(diagnose, "run", lambda *a, on_step=None, **kw: planted.diagnosis(), raising=False)
    monkeypatch.setattr(agreement, "_diagnosis", lambda file, spec: iter(()))  # planted: two bands, whatever is asked
    monkeypatch.setattr(search, "run", fake_search, raising=False)
    monkeypatch.setattr(evaluate, "run", lambda loaded, setting, *a, **kw: planted.under(setting))
    st.cache_resource.clear()
    made = {"load": load, "real_load": real_load, "patch": monkeypatch.setattr}
    yield SimpleNamespace(diagnose=diagnose, search=search, evaluate=evaluate, **made)
    undo_scales(demo_model)


@pytest.fixture
def hub_folder(tmp_path, byte_tokenizer):
    """`hub_folder(raw)` -> a folder with weights of that config.json, and config.json letter by letter."""

    import transformers

    from tests.models.hub_folders import random_model

    def write(raw, **said):
        (tmp_path / "config.json").write_text(json.dumps(raw))
        random_model(transformers.AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
        (tmp_path / "generation_config.json").unlink(missing_ok=True)
        byte_tokenizer.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(raw | said))
        return tmp_path

    return write


@pytest.fixture(scope="session")
def forks():
    """Python processes of their own that need not import torch, transformers and Streamlit anew."""
    from tests.helpers.forks import Forks

    with Forks() as up:
        yield up


@pytest.fixture(scope="session")
def runtime():
    """`runtime(name)` -> the folder of a reader of `exporters/readers`, put there by pip once.

    It lies in the user's cache, where `verify --runtime` looks for it, too. Mark the test slow; it is skipped where the
    registry has no such packages or cannot be reached.
    """
    from qroar_core.exporters.readers import readers
    from qroar_core.models.runtimes.run import place_of

    places = {name: place_of(name) for name in readers()}  # before a test sets another cache

    @functools.cache
    def place(name):
        reader, folder = readers()[name], places[name]
        if not (folder / reader.module).is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", scratch]
                done = subprocess.run([*line, *reader.packages], capture_output=True, text=True)
                if done.returncode:
                    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
                    return None, f"pip cannot fetch {' '.join(reader.packages)}: {last[:200]}"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.move(scratch, folder)
                Path(scratch).mkdir()  # for the context to remove
        return folder, ""

    def ask(name):
        folder, why = place(name)
        return folder or pytest.skip(why)

    return ask


@pytest.fixture(scope="session")
def quick_visits():
    """An AppTest asks every installed package for components of Streamlit: the answer is the same all session long.

    And it looks a thousand times a second whether its script has ended, a seventh of all its time: it waits instead.
    """
    from streamlit.components.v2 import manifest_scanner
    from streamlit.testing.v1 import local_script_runner

    def wait(runner, timeout=3):
        runner._script_thread.join(timeout)
        if runner._script_thread.is_alive():
            ask(runner, 0)  # stops it and says so

    ask = local_script_runner.require_widgets_deltas
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            manifest_scanner, "scan_component_manifests", functools.cache(manifest_scanner.scan_component_manifests)
        )
        patch.setattr(local_script_runner, "require_widgets_deltas", wait)
        yield


@pytest.fixture
def app(stages):
    """A fresh visitor on the Start page."""
    from streamlit.testing.v1 import AppTest

    return AppTest.from_file(str(Path(__file__).parents[1] / "app.py"), default_timeout=30).run()
