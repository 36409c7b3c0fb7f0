"""Every option, declared once, in groups that the commands pick from.

A command's typer signature is assembled from these groups, so `--k` means and reads the same
everywhere. Values arrive in one dict; `settings.py` turns it into specs.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from qroar_core.cli.choices import CHOICES
from qroar_core.specs import ROPE_METHODS
from qroar_core.specs.labels import TEXT_WORDS
from qroar_core.transforms.registry import flag, switches

ROPES = f"{'|'.join(ROPE_METHODS)}|FILE.json"


def option(name: str, kind: Any, default: Any, text: str, *flags: str, metavar: str | None = None) -> inspect.Parameter:
    flag = flags or (f"--{name.replace('_', '-')}",)
    shown = metavar or "|".join(CHOICES.get(name, ())) or None
    annotation = Annotated[kind, typer.Option(*flag, help=text, metavar=shown)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


MODEL = [
    inspect.Parameter(
        "model",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[
            str,
            typer.Argument(
                help="demo, smollm2, a folder, a GGUF file, or on the Hugging Face hub org/name, org/name:Q4_K_M, "
                "org/name/file.gguf, each also with @revision at its end",
                metavar="MODEL",
            ),
        ],
    ),
    option("device", str, "auto", "auto, cpu, cuda, cuda:1, mps, or balanced: layers spread over every GPU"),
    option("dtype", str, "auto", "auto, float32, float16, bfloat16, float64"),
    option("json", bool, False, "print the closing table as JSON", "--json"),
]
SETTING = [
    option("rope", str | None, None, "position interpolation, or a file of one", metavar=ROPES),
    option("factor", float | None, None, "interpolation factor s"),
    option("longrope_factors", str | None, None, "JSON with long_factor and short_factor", metavar="FILE"),
    option(
        "tie",
        str | None,
        None,
        "groups of RoPE pairs that turn at one frequency, 0: stand still; auto: chosen on the model before a search",
        metavar="FIRST-LAST[:TURN],...|auto",
    ),
    option("weights", str, "none", "weight quantizer", metavar="none|intN|PRESET"),
    option("weight_scale", str, "channel", "granularity of the weight scales"),
    option("group_size", int | None, None, "inputs, channels or tokens per group"),
    option("k", str | None, None, "K cache quantizer", metavar="none|intN|PRESET"),
    option("v", str | None, None, "V cache quantizer", metavar="none|intN|PRESET"),
    option("kv", str | None, None, "both K and V cache", metavar="none|intN|PRESET"),
    option("kv_scale", str | None, None, "granularity of the cache scales"),
    option("kv_rotation", str | None, None, "rotation before the cache quantizer"),
    option("k_before_rope", bool, False, "quantize K before RoPE", "--k-before-rope"),
    option("keep_layers", str | None, None, "layers whose K/V cache is not quantized, from 0", metavar="N,N,..."),
    option("qk", str, "none", "q and k activation quantizer", metavar="none|intN"),
    option("activations", str, "none", "quantizer of the inputs of linear layers", metavar="none|intN"),
    option("length", int | None, None, "context length L, tokens"),
    option(
        "text",
        str | None,
        None,
        "an embedded text collection, or your own text file",
        metavar="|".join((*TEXT_WORDS, "FILE")),
    ),
    option(
        "dataset",
        str | None,
        None,
        "texts of one field of a hub dataset, a folder, or a JSONL, CSV or parquet file",
        metavar="NAME[:CONFIG[:SPLIT]]:FIELD",
    ),
    option(
        "bos",
        str,
        "auto",
        "start every window with BOS; auto: where the tokenizer adds it to a text",
    ),
    option("seed", int, 0, "seed of windows and samplers"),
]
BANDS = [
    option("bands", int | None, None, "frequency bands; 8 if not given, or as many as the model has RoPE pairs"),
    option("partition", str, "count", "how pairs are grouped"),
]
OUTLIERS = [
    option("outlier_rule", str, "iqr", "rule that marks a channel or an entry as an outlier"),
    option(
        "outlier_parameter",
        float | None,
        None,
        "parameter of the outlier rule: fence (default 1.5), modified z-score (3.5) or quantile (0.99)",
        metavar="X",
    ),
]
DIAGNOSE = [
    option(
        "distance_law",
        str,
        "causal",
        "distances that pressures are averaged over: causal, every query and the "
        "keys that it sees; uniform, every distance alike",
    ),
    option(
        "null",
        bool,
        False,
        "draw every diagnostic's null several times, and print it beside the measured value",
        "--null",
    ),
    option(
        "band_cost",
        bool,
        False,
        "also measure what rounding each band alone does to the next token (two backward passes)",
        "--band-cost",
    ),
]
CSV = [option("csv", str | None, None, "also write the table of bands to this new file", metavar="FILE")]
WINDOWS = [
    option("windows", int | None, None, "windows of text per stage; by default fewer where the text is short"),
]
SEARCH = [
    option(
        "granularity",
        str | None,
        None,
        "granularity of the band scales; by default the finest that is exact",
    ),
    option("mode", str, "symmetric", "q times g and k over g, or both times g"),
    *(option(name, bool, False, switch.option, flag(name)) for name, switch in switches().items()),
    option("objective", str, "cached", "objective that scores a candidate"),
    option(
        "error_metric",
        str,
        "rows",
        "attention error metric of the cached objective",
    ),
    option("method", str, "gradient", "search method"),
    option("sampler", str, "tpe", "Optuna sampler of --method optuna"),
    option("trials", int, 40, "number of candidates, with --method optuna or --objective full"),
    option("l2_penalty", float, 0.0, "regularisation of log2 g towards 0, stronger in bands under pressure"),
    *WINDOWS,
    option(
        "bounds",
        str | None,
        None,
        "search bounds of log2 g, one pair a band, in place of those from the diagnosis",
        metavar="LOW:HIGH,LOW:HIGH,...",
    ),
]
# what a comparison takes: kinds of transform that are not searched on top of remedies are left out
SEARCH_ON_REMEDIES = [one for one in SEARCH if one.name not in switches() or switches()[one.name].on_remedies]
SHARED = [
    option(
        "storage",
        str | None,
        None,
        "journal file of --method optuna that several processes share; repeat the command to resume, or to join "
        "from another terminal or machine",
        metavar="FILE",
    ),
    option("workers", int, 1, "number of processes that this command starts on --storage"),
]
EVALUATE = [
    option("scales", str | None, None, "scales.json to apply", metavar="FILE"),
    option("lengths", str | None, None, "context lengths to compare, e.g. 512,2048", metavar="L,L,..."),
]
SLIDING = [
    option("stride", int | None, None, "stride of the sliding windows in tokens; each window scores its last tokens"),
    option("targets", int | None, None, "number of last tokens of each text that are scored"),
]
ROTATION = [
    option(
        "rotation_scales", bool, False, "also search scales under the Hadamard-rotated quantizer", "--rotation-scales"
    ),
]
ROTATION_FILE = [
    option(
        "rotation_scales", str | None, None, "scales.json that was searched under the rotated quantizer", metavar="FILE"
    ),
]
COMPARE = [
    option("methods", str | None, None, "remedies to compare; by default all that apply", metavar="M,M,..."),
    option("no_band_scales", bool, False, "do not search band scales on top of each remedy", "--no-band-scales"),
    option("calibration_tokens", int | None, None, "tokens that GPTQ reads; by default 262144 or all that there are"),
]
RETRIEVE = [
    option("tasks", str | None, None, "retrieval tasks", metavar="passkey,needles"),
    option("depths", str | None, None, "depths in the text, percent, e.g. 0,50,100", metavar="P,P,..."),
    option("trials", int | None, None, "trials per task, length and depth"),
    option("slack", int | None, None, "tokens that an answer may be longer than the number"),
    option("no_chat", bool, False, "do not use the tokenizer's chat template", "--no-chat"),
]
CONTROLS = [
    option("shuffles", int, 3, "number of draws of each shuffle"),
    option("other_seeds", int, 2, "number of searches with another seed"),
    option(
        "other_texts", str | None, None, "text collections to search on as well", metavar="messages,technical,novels"
    ),
    option(
        "formats",
        str,
        "bfloat16,float16",
        "number formats to repeat the measurement in, or none",
        metavar="DTYPE,DTYPE|none",
    ),
]
REPLICATE = [
    option(
        "methods",
        str | None,
        None,
        "interpolations to test, all with --factor; by default --rope alone",
        metavar="yarn,linear,...",
    ),
    option(
        "quantizers",
        str | None,
        None,
        "K cache quantizers to test; by default that of the other options",
        metavar="int4,int3,...",
    ),
    option("tolerance", float, 0.01, "tolerated cost of the scales at short context, nats per token"),
]
TUNE_ROPE = [
    option("trials", int, 40, "interpolations tried in each condition, the known ones among them"),
    option("short_length", int | None, None, "tokens of the short context that the choices are measured at too"),
    *WINDOWS,
]
RETRIEVE_TOO = [
    option("retrieve", bool, False, "also test retrieval of numbers hidden in held-out text", "--retrieve"),
]
OUT = [option("out", str | None, None, "output folder; the command creates it", metavar="DIR")]
SWEEP = [
    inspect.Parameter(
        "file",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[str, typer.Argument(help="YAML file of the sweep", metavar="FILE")],
    ),
    *(one for one in MODEL if one.name in ("device", "dtype")),
    option(
        "cells",
        str | None,
        None,
        "folder that keeps finished cells for every sweep; machines that share it compute no cell twice",
        metavar="DIR",
    ),
    option("workers", int | None, None, "number of workers at a time, by Ray on this machine or at --address"),
    option(
        "address",
        str | None,
        None,
        "Ray cluster whose workers measure the cells; auto: the one that this machine belongs to",
        metavar="auto|HOST:PORT|ray://HOST:10001",
    ),
    option(
        "cpus",
        int | None,
        None,
        "CPU cores and threads of each worker; by default this machine's divided among --workers, 4 with --address",
    ),
]
