"""Every option, declared once, in groups that the commands pick from.

A command's typer signature is assembled from these groups, so `--k` means and reads the same
everywhere. Values arrive in one dict; `settings.py` turns it into specs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from qroar_core.exporting.formats import FORMATS

_Missing = inspect.Parameter.empty


def _option(
    name: str, kind: Any, default: Any, text: str, *flags: str, metavar: str | None = None
) -> inspect.Parameter:
    flag = flags or (f"--{name.replace('_', '-')}",)
    annotation = Annotated[kind, typer.Option(*flag, help=text, metavar=metavar)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


MODEL = [
    inspect.Parameter(
        "model",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[
            str,
            typer.Argument(
                help="demo, smollm2, a folder, a GGUF file, or on the Hugging Face hub org/name, org/name:Q4_K_M, "
                "org/name/file.gguf, each with @revision after the name",
                metavar="MODEL",
            ),
        ],
    ),
    _option("device", str, "auto", "auto, cpu, cuda, cuda:1, mps, or balanced: layers spread over every GPU"),
    _option("dtype", str, "auto", "auto, float32, float16, bfloat16, float64"),
    _option("json", bool, False, "print the closing table as JSON", "--json"),
]
SETTING = [
    _option(
        "rope", str | None, None, "position interpolation", metavar="default|linear|ntk|dynamic|yarn|longrope|llama3"
    ),
    _option("factor", float | None, None, "interpolation factor s"),
    _option("longrope_factors", str | None, None, "JSON with long_factor and short_factor", metavar="FILE"),
    _option("weights", str, "none", "weight quantizer", metavar="none|intN"),
    _option("weight_scale", str, "channel", "what shares a weight scale", metavar="tensor|channel|group"),
    _option("group_size", int | None, None, "inputs, channels or tokens per group"),
    _option("k", str | None, None, "K cache quantizer", metavar="none|intN|PRESET"),
    _option("v", str | None, None, "V cache quantizer", metavar="none|intN|PRESET"),
    _option("kv", str | None, None, "both K and V cache", metavar="none|intN|PRESET"),
    _option("kv_scale", str | None, None, "what shares a cache scale", metavar="token|channel|tensor|block"),
    _option("kv_rotation", str | None, None, "rotation before the cache quantizer", metavar="none|hadamard"),
    _option("k_before_rope", bool, False, "quantize K before its rotation", "--k-before-rope"),
    _option("qk", str, "none", "q and k activation quantizer", metavar="none|intN"),
    _option("activations", str, "none", "quantizer of what linear layers read", metavar="none|intN"),
    _option("length", int | None, None, "context length L, tokens"),
    _option(
        "text", str | None, None, "an embedded collection, or your own text", metavar="messages|technical|novels|FILE"
    ),
    _option("dataset", str | None, None, "the texts of one field: of a dataset of the hub, a folder, or a JSONL, CSV "
            "or parquet file", metavar="NAME[:CONFIG[:SPLIT]]:FIELD"),
    _option("bos", str, "auto", "does a window start with BOS; auto: where the tokenizer puts it before a text",
            metavar="auto|on|off"),
    _option("seed", int, 0, "seed of windows and samplers"),
]  # fmt: skip
BANDS = [
    _option("bands", int | None, None, "frequency bands; 8 if not given, or as many as the model has RoPE pairs"),
    _option("partition", str, "count", "how pairs are grouped", metavar="count|log|turns"),
]
OUTLIERS = [
    _option("outlier_rule", str, "iqr", "what calls a channel or an entry an outlier", metavar="iqr|mad|percentile"),
    _option("outlier_parameter", float | None, None, "of the rule: fence (1.5 if not given), modified z-score (3.5) "
            "or quantile (0.99)", metavar="X"),
]  # fmt: skip
DIAGNOSE = [
    _option("distance_law", str, "causal", "distances that pressures are averaged over: causal, every query and the "
            "keys that it sees; uniform, every distance alike", metavar="causal|uniform"),
    _option("null", bool, False, "draw the null of every diagnostic several times, and show what each reads there",
            "--null"),
    _option("band_cost", bool, False, "also what rounding each band alone does to the next token: two backward passes",
            "--band-cost"),
]  # fmt: skip
CSV = [_option("csv", str | None, None, "also write the table of bands there; must not exist", metavar="FILE")]
WINDOWS = [
    _option("windows", int | None, None, "windows of text per stage; if not given, fewer where the text holds fewer"),
]
SEARCH = [
    _option(
        "granularity",
        str | None,
        None,
        "what shares a scale; the finest that is exact if not given",
        metavar="model|layer|kv_head",
    ),
    _option("mode", str, "symmetric", "q times g and k over g, or both times g", metavar="symmetric|shared"),
    _option("angles", bool, False, "also turn every RoPE pair of q and k by one angle", "--angles"),
    _option("objective", str, "cached", "what a candidate is judged by", metavar="cached|full|kl"),
    _option(
        "judge",
        str,
        "rows",
        "what damage to attention the cached objective counts",
        metavar="logits|rows|output|projected",
    ),
    _option("method", str, "gradient", "how candidates are found", metavar="gradient|coordinate|optuna"),
    _option("sampler", str, "tpe", "who proposes the candidates of --method optuna", metavar="tpe|random|grid"),
    _option("trials", int, 40, "candidates of --method optuna, and of --objective full"),
    _option("shrink", float, 0.0, "how much scales are pulled towards 1, more in bands under pressure"),
    *WINDOWS,
    _option("bounds", str | None, None, "log2 g per band instead of the diagnosed", metavar="LOW:HIGH,LOW:HIGH,..."),
]
SHARED = [
    _option("storage", str | None, None, "file through which processes share the candidates of --method optuna; the "
            "same command goes on with it, or joins it from another terminal or machine", metavar="FILE"),
    _option("workers", int, 1, "processes of this command that share --storage"),
]  # fmt: skip
EVALUATE = [
    _option("scales", str | None, None, "scales.json to apply", metavar="FILE"),
    _option("lengths", str | None, None, "context lengths to compare, e.g. 512,2048", metavar="L,L,..."),
]
SLIDING = [
    _option("stride", int | None, None, "windows slide by so many tokens and score the last so many"),
    _option("targets", int | None, None, "last tokens of each text that are scored"),
]
ROTATION = [
    _option("rotation_scales", bool, False, "also search scales under the Hadamard-rotated quantizer",
            "--rotation-scales"),
]  # fmt: skip
ROTATION_FILE = [
    _option("rotation_scales", str | None, None, "scales.json searched under the rotated quantizer", metavar="FILE"),
]
LEAGUE = [
    _option("methods", str | None, None, "remedies to compare; all that apply if not given", metavar="M,M,..."),
    _option("no_band_scales", bool, False, "do not search band scales under each", "--no-band-scales"),
]
RETRIEVE = [
    _option("tasks", str | None, None, "what is hidden", metavar="passkey,needles"),
    _option("depths", str | None, None, "where in the text, percent, e.g. 0,50,100", metavar="P,P,..."),
    _option("trials", int | None, None, "trials per task, length and depth"),
    _option("slack", int | None, None, "tokens an answer may be longer than the number"),
    _option("no_chat", bool, False, "do not use the tokenizer's chat template", "--no-chat"),
]
CONTROLS = [
    _option("shuffles", int, 3, "draws of each shuffle"),
    _option("other_seeds", int, 2, "searches with another seed"),
    _option("other_texts", str, "", "collections to search on as well", metavar="messages,technical,novels"),
    _option("formats", str, "bfloat16,float16", "number formats to measure in, or none", metavar="DTYPE,DTYPE|none"),
]
REPLICATE = [
    _option("methods", str | None, None, "interpolations to test, all with --factor; --rope alone if not given",
            metavar="yarn,linear,..."),
    _option("quantizers", str | None, None, "K cache quantizers to test; that of the other options if not given",
            metavar="int4,int3,..."),
    _option("tolerance", float, 0.01, "nats per token that scales may cost at short context"),
]  # fmt: skip
RETRIEVE_TOO = [
    _option("retrieve", bool, False, "also hide numbers in held-out text and ask for them", "--retrieve"),
]
EXPORT = [
    _option("format", str, "hf", "what to write; gguf and quantized: MODEL's own codes, only its scales edited",
            metavar="|".join(FORMATS)),
    _option("weight_group", int | None, None, "inputs that share a step in w4a16; 128 if not given", "--group-size"),
]  # fmt: skip
OUT = [_option("out", str | None, None, "folder to write; made by the command", metavar="DIR")]


def takes(*groups: list[inspect.Parameter],
          intervals: bool = False) -> Callable[[Callable[[dict], None]], Callable[..., None]]:  # fmt: skip
    """Give a command function `f(options)` the typer signature of these groups; "arguments" is the line itself.

    Args:
        intervals: what the command measures comes with an interval over windows, so that one window is refused.
    """
    parameters = [p for group in groups for p in group]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    def decorate(command: Callable[[dict], None]) -> Callable[..., None]:
        @wraps(command)
        def wrapper(context: typer.Context, **options: Any) -> None:
            command(options | {"arguments": context.obj, "intervals": intervals})

        wrapper.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in (context, *parameters)}
        return wrapper

    return decorate
