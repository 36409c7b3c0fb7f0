"""Options of `export` alone."""

from __future__ import annotations

from qroar_core.cli.options import SETTING, option

EXPORT = [
    option(
        "format",
        str,
        "hf",
        "format to write; gguf and quantized keep MODEL's own codes and edit only their scales",
    ),
    option("weight_group", int | None, None, "group size of w4a16, in inputs; default 128", "--group-size"),
    option(
        "print_serving",
        bool,
        False,
        "also print how each runtime serves the export, with --length and the cache of --kv",
        "--print-serving",
    ),
]
SERVED = [  # of --print-serving and --cache-scales
    option(
        "cache_scales",
        bool,
        False,
        "also write a k_scale and a v_scale a layer for an fp8 cache, measured on calibration text; with --kv "
        "fp8-calibrated",
        "--cache-scales",
    ),
    *(p for p in SETTING if p.name in ("k", "v", "kv", "length", "text", "dataset", "bos")),
]
