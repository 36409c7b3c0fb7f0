"""Which files of a repository on the hub make a model: chosen from their list, before anything large is read.

A repository is a folder with safetensors, several GGUF files of which one is named, or nothing that can be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.byte_order_mark import LONGEST, not_read
from qroar_core.plain_file import parsed

CONFIG, TOKENIZER, LISTS = "config.json", "tokenizer.json", ("vocab.json", "merges.txt")
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
TEXTS = (".json", ".jinja", ".txt", ".model")  # config, tokenizer and templates
PICKLES = (".bin", ".pt", ".pth")
SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
QUANT = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:I?Q\d|TQ\d|BF16|F16|F32|FP16|FP32|MXFP4|NVFP4)(?:_[A-Za-z0-9]+)*)$", re.IGNORECASE
)
BESIDE = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")  # no models of their own, as llama.cpp has it
ADAPTERS = re.compile(r"(?:^|[-_.])(?:lora|adapter)(?:[-_.]|$)", re.IGNORECASE)
MOST_NAMED = 12  # files or quantizations that one line names


def chosen(
    files: Iterable[str], read: Callable[[str], bytes], asked: str, repo: str, quant: str = "", file: str = ""
) -> list[str]:
    """Names of the files to fetch, weights last: while weights are missing nobody takes the rest for a whole model.

    Args:
        files: everything the repository holds.
        read: fetches one small file's content; called for the index of the weights alone.
        asked: what the person typed, named in errors.
        repo: org/name, as errors write it: with @revision where one was asked for.
        quant: a quantization's name, as in org/name:Q4_K_M.
        file: the path of a GGUF file in the repository.

    Raises:
        BadCheckpoint: no such file or quantization, or nothing that can be loaded.
        UnsupportedModel: pickled weights only.
    """
    names = sorted(files)
    if file:
        return _shards(_named(file, names, asked, repo), names, asked)
    if quant:
        return _shards(_of_quant(quant, names, asked, repo), names, asked)
    top = [name for name in names if "/" not in name and not name.startswith(("consolidated", "."))]
    weights = _safetensors(top, read, asked)
    if weights and CONFIG in top:
        _require_tokenizer(top, asked)
        return [name for name in top if name.endswith(TEXTS) and name not in weights] + weights
    if ADAPTER in top:
        return [ADAPTER]  # what its base is stands there
    if _first_shards(names):
        offered, example = files_in_words(names)
        raise BadCheckpoint(f"it holds GGUF files: {offered}", where=asked, do=f"name one, as in {repo}{example}")
    pickles = [name for name in top if name.endswith(PICKLES)]
    if pickles:
        raise UnsupportedModel(
            f"only pickled weights ({pickles[0]})", where=asked, do="convert them to safetensors first"
        )
    held = f"it has safetensors and no {CONFIG}" if weights else "neither safetensors nor GGUF files"
    raise BadCheckpoint(f"{held} at its top", where=asked, do="name a repository that holds a model")


def _require_tokenizer(top: list[str], asked: str) -> None:
    """Before gigabytes come: a model whose way of cutting text nothing says is not measured."""
    if TOKENIZER not in top and not set(LISTS) <= set(top):
        raise BadCheckpoint(
            f"it has safetensors and no {TOKENIZER} at its top",
            where=asked,
            do="download it, save its tokenizer with transformers' AutoTokenizer and save_pretrained, and give the "
            "folder",
        )


def _safetensors(top: list[str], read: Callable[[str], bytes], asked: str) -> list[str]:
    """The files that hold the weights: those that the index names, or `model.safetensors`, or all there are."""
    indices = [name for name in top if name.endswith(".safetensors.index.json")]
    index = INDEX if INDEX in indices else indices[0] if len(indices) == 1 else None
    if index is not None:
        places = _places(index, read(index), asked)
        if missing := sorted(map(str, places - set(top))):
            raise BadCheckpoint(f"{index} names {missing[0]}, which is not there", where=asked, do="tell its author")
        return sorted(places)
    if "model.safetensors" in top:
        return ["model.safetensors"]
    return [name for name in top if name.endswith(".safetensors") and not name.startswith("adapter_")]


def _places(index: str, content: bytes, asked: str) -> set[str]:
    """The files that an index of weights names."""
    try:
        return set(parsed(content)["weight_map"].values())
    except ValueError as error:
        what, how = not_read(index, content[:LONGEST], error)
        mended = f", or download the repository, save that file {how} and give the folder" if how else ""
        raise BadCheckpoint(what, where=asked, do=f"tell its author{mended}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{index} is no index of weights", where=asked, do="tell its author") from error


def is_model(name: str) -> bool:
    """Is this a GGUF model by its name, and not what lies beside one (a projector, a matrix, a draft, an adapter)?"""
    base = PurePosixPath(name).name
    beside = any(word in base.lower() for word in BESIDE) or ADAPTERS.search(base.removesuffix(".gguf"))
    return base.lower().endswith(".gguf") and not beside


def quant_of(name: str) -> str:
    """The quantization that ends a GGUF file's name, or "" where none does."""
    found = QUANT.search(SHARD.sub("", PurePosixPath(name).name)[: -len(".gguf")])
    return found.group(1) if found else ""


def _first_shards(names: list[str]) -> list[str]:
    """One name for each model: the file, or the first of its shards."""
    return [n for n in names if is_model(n) and (not (part := SHARD.search(n)) or int(part.group(1)) == 1)]


def files_in_words(names: list[str]) -> tuple[str, str]:
    """Which GGUF files a repository holds, in one line, and how to name one of them after org/name."""
    models = _first_shards(names)
    quants = [quant_of(name) for name in models]
    by_quant = all(quants) and len({quant.lower() for quant in quants}) == len(quants)
    shown = quants if by_quant else models
    more = f" and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
    likely = [name for name in shown if "Q4_K_M" in name.upper()] or shown
    return ", ".join(shown[:MOST_NAMED]) + more, f":{likely[0]}" if by_quant else f"/{likely[0]}"


def _of_quant(quant: str, names: list[str], asked: str, repo: str) -> str:
    """The model of a quantization: its name, in either case, and a dot or a hyphen, as llama.cpp looks for it."""
    said = re.escape(quant)
    models = _first_shards(names)
    found = [name for name in models if re.search(rf"{said}[.-]", name, re.IGNORECASE)]
    # llama.cpp takes the first; Q4_XS would be IQ4_XS, and F16 be BF16: a name that begins there comes before one that
    # only ends so, and where several are left the person chooses
    for closer in (rf"(?<![A-Za-z0-9]){said}[.-]", rf"(?<!UD-)(?<![A-Za-z0-9]){said}(-\d{{5}}-of-\d{{5}})?\.gguf$"):
        if len(found) > 1:
            found = [name for name in found if re.search(closer, name, re.IGNORECASE)] or found
    if not models:
        raise BadCheckpoint("it holds no GGUF file", where=asked, do=f"drop :{quant} to load its safetensors")
    if not found:
        offered, example = files_in_words(names)
        raise BadCheckpoint(
            f"no GGUF file of {quant}; it holds {offered}", where=asked, do=f"name one: {repo}{example}"
        )
    if len(found) > 1:
        raise BadCheckpoint(
            f"{len(found)} GGUF files of {quant}: {', '.join(found[:MOST_NAMED])}",
            where=asked,
            do=f"name the file, as in {repo}/{found[0]}",
        )
    return found[0]


def _named(file: str, names: list[str], asked: str, repo: str) -> str:
    if file in names:
        return file
    models = _first_shards(names)
    if not models:
        raise BadCheckpoint(f"no file {file}, and no other GGUF file", where=asked, do="check the repository's name")
    offered, example = files_in_words(names)
    raise BadCheckpoint(f"no file {file}; it holds {offered}", where=asked, do=f"name one, as in {repo}{example}")


def _shards(name: str, names: list[str], asked: str) -> list[str]:
    """All shards of a GGUF file, first to last; the file alone where it is not split."""
    part = SHARD.search(name)
    if part is None:
        return [name]
    count = int(part.group(2))
    shards = [f"{name[: part.start()]}-{i:05d}-of-{count:05d}{name[part.end() :]}" for i in range(1, count + 1)]
    if missing := [shard for shard in shards if shard not in names]:
        raise BadCheckpoint(f"{missing[0]} is missing in the repository", where=asked, do="tell its author")
    return shards
