"""What lm-evaluation-harness makes of our exports, its own model class on the exported folder, beside `lm-eval` here.

The exports and tokens of `runtimes`. Three perplexities of the same 1,044 tokens: HFLM, the harness's class for
transformers, on the folder; this tool's adapter and `evaluate` on the model in memory, under interpolation and scales.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.runtimes import FIRST, GREEDY, TOKENS, TRANSFORMS, alike, ropes, transforms
from qroar_core.errors import BadSpec
from qroar_core.exporters import hf
from qroar_core.models import load
from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import encode, split
from qroar_core.models.window_losses import measure

HEAD = (
    "| lm-eval | `--rope` | transform | HFLM on the exported folder | this `lm-eval` | `evaluate` "
    f"| farthest apart | greedy tokens alike |\n{'|---' * 8}|"
)


def main() -> None:
    """Print a row for every interpolation and transform.

    Raises:
        BadSpec: the harness is not installed.
    """
    if find_spec("lm_eval") is None:
        raise BadSpec("lm-evaluation-harness is not installed", where="runtimes.lm_eval", do="pip install '.[lm-eval]'")
    loaded = load.run("demo", device="cpu", dtype="float32")
    ids = encode(loaded.tokenizer, split("heldout")[0])[:TOKENS].tolist()
    version = metadata.version("lm_eval")
    print(HEAD)
    for rope, transform, found, same in rows(loaded, ids):
        apart = max(found) / min(found) - 1
        said = " | ".join(f"{one:.5f}" for one in found)
        print(f"| {version} | {rope} | {transform} | {said} | {apart:.1e} | {same} of {GREEDY} |", flush=True)


def rows(loaded: LoadedModel, ids: list[int]) -> Iterator[tuple[str, str, tuple[float, float, float], int]]:
    """Interpolation, transform, the three perplexities, and how many greedy tokens agree before one does not."""
    from lm_eval.models.huggingface import HFLM

    from qroar_core.harness.adapter import ConditionLM
    from qroar_core.harness.generation import Prompt, generate

    asked = [(("", ""), ids[:FIRST], ids[FIRST:])]
    prompt = ids[:-GREEDY]
    for rope in ropes(loaded):
        for transform, scales in zip(TRANSFORMS, transforms(loaded), strict=True):
            condition = Condition(rope, scales=scales)
            with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of transformers' generate, on lengths
                folder = str(hf.run(loaded, rope, scales, Path(scratch) / "export"))
                theirs = HFLM(pretrained=folder, device="cpu", dtype="float32", max_length=TOKENS, batch_size=1)
                ((in_harness, _),) = theirs._loglikelihood_tokens(asked, disable_tqdm=True)
                written = theirs._model_generate(torch.tensor([prompt]), len(prompt) + GREEDY, [])
            ours = ConditionLM(loaded, condition, TOKENS)
            ours._task_names = [""]
            ((adapted, _),) = ours._loglikelihood_tokens(asked)
            evaluated = float(measure(loaded, condition, torch.tensor([ids]), TOKENS - FIRST).nll.double().sum())
            mine = generate(loaded, condition, [Prompt(tuple(prompt), GREEDY)], TOKENS)[0]
            found = tuple(math.exp(-total / (TOKENS - FIRST)) for total in (in_harness, adapted, -evaluated))
            yield rope.method, transform, found, alike(written[0, len(prompt) :].tolist(), mine)
