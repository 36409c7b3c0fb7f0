"""A checkpoint's tokenizer, read from its folder.

tokenizer.json is the law: it is loaded as it is, whatever `tokenizer_class` says. transformers' classes rebuild
parts of it (GPT2Tokenizer drops its pre-tokenizer, the Qwen2 and Cohere classes add a normalizer), which gives other
tokens without a word. tokenizer_config.json gives the names of special tokens and the chat template.
BOS: where tokenizer.json puts one before a text, or where the config says `add_bos_token: true` and tokenizer.json does
not. transformers 4 and llama.cpp's converter honour that key, 5.23 drops it (DeepSeek's checkpoints need it). The
key as false takes nothing away from tokenizer.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qroar_core.errors import BadCheckpoint
from qroar_core.models.byte_order_mark import beginning_of, mark_in, not_read, saved_or
from qroar_core.models.checkpoint_files import TEMPLATE, check_files, has, table_in, text_in
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.token_ids import know_rows, put_around

LAW, CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
OTHERS = ("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "tekken.json")
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
REBUILT = ("GPT2Tokenizer", "Qwen2Tokenizer")  # classes whose vocab.json and merges.txt say everything
PICKED = "save it with transformers' AutoTokenizer and save_pretrained, which writes tokenizer.json"


def read_tokenizer(folder: Path, where: str, rows: int | None = None) -> Any:
    """The tokenizer of a checkpoint's folder.

    Args:
        where: the checkpoint's name, for messages.
        rows: rows of the model's embedding; ids past them are refused where a text holds them.
    Raises:
        BadCheckpoint: no tokenizer.json and nothing that says as much, files that cannot be read, or a word of
            ordinary text whose id lies past the embedding.
    """
    check_files(folder)
    config = _table(folder, "special_tokens_map.json", where) | _table(folder, CONFIG, where)
    if has(folder, LAW):
        tokenizer = _as_it_is(folder, config, where)
    else:
        tokenizer = _from_lists(folder, config, where)
    if rows is not None:
        _refuse_words_past(tokenizer, rows, where)
        know_rows(tokenizer, rows)
    return tokenizer


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder that a tokenizer is made of."""
    names = (LAW, CONFIG, *TEMPLATE_FILES, *OTHERS)
    extra = (*folder.glob("*.model"), *folder.glob("additional_chat_templates/*.jinja"))
    return [path for path in (*(folder / name for name in names), *sorted(extra)) if path.is_file()]


def _table(folder: Path, name: str, where: str) -> dict[str, Any]:
    return table_in(folder / name, where) if has(folder, name) else {}


def _unread(path: Path, error: BaseException, where: str, beside: str = "") -> BadCheckpoint:
    beginning = beginning_of(path)  # a plain file: `check_files` has looked at it
    what, how = not_read(path.name if mark_in(beginning) else f"{path.name}{beside}", beginning, error)
    return BadCheckpoint(what, where=where, do=saved_or(how, "fetch the checkpoint again"))


def _as_it_is(folder: Path, config: dict[str, Any], where: str) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    try:
        backend = Tokenizer.from_file(str(folder / LAW))
    except Exception as error:  # tokenizers raises nothing narrower
        raise _unread(folder / LAW, error, where) from error
    backend.no_truncation()
    backend.no_padding()
    named = {name: _content(config.get(name), f"{CONFIG}: {name}", where) for name in SPECIAL}
    known = {name: text for name, text in named.items() if text and backend.token_to_id(text) is not None}
    if not isinstance(put := config.get("add_bos_token"), bool | None):
        raise BadCheckpoint(f"{CONFIG}: add_bos_token is {repr(put)[:60]}", where=where, do="write true or false")
    if getattr(backend.model, "dropout", None):
        raise BadCheckpoint(
            f"{LAW} cuts text at random (dropout {backend.model.dropout:g})", where=where, do="set its dropout to null"
        )
    if put and _first(backend, where) is None:
        if "bos_token" not in known:
            raise BadCheckpoint(
                f"{CONFIG} says add_bos_token, {LAW} has no token {named['bos_token']!r}",
                where=where,
                do="set bos_token",
            )
        _put_bos(backend, known["bos_token"])
    if "bos_token" not in known and (first := _first(backend, where)):
        known["bos_token"] = first  # no file names it, tokenizer.json puts it before every text
    with quiet_transformers():
        tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **known)
    tokenizer._tokenizer = backend  # the constructor adds tokens and a post-processor of its own
    tokenizer.chat_template = _chat_template(folder, config, where)
    return tokenizer


def _content(token: Any, what: str, where: str) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    if text is not None and not isinstance(text, str):
        raise BadCheckpoint(
            f"{what} is {repr(token)[:60]}, a text belongs there", where=where, do="fetch the checkpoint again"
        )
    return text


def _first(backend: Any, where: str) -> str | None:
    """The special token that a text begins with."""
    before, _ = put_around(backend, where)
    return str(backend.id_to_token(before[0])) if before else None


def _put_bos(backend: Any, bos: str) -> None:
    from tokenizers import processors

    put = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos} $B:1", [(bos, backend.token_to_id(bos))])
    before = backend.post_processor
    backend.post_processor = put if before is None else processors.Sequence([before, put])


def _chat_template(folder: Path, config: dict[str, Any], where: str) -> str | dict[str, str] | None:
    """A template, or several by name; a file of its own comes before the config's entry."""
    said = config.get("chat_template")
    if has(folder, TEMPLATE_FILES[0]):
        said = text_in(folder / TEMPLATE_FILES[0], where)
    elif has(folder, TEMPLATE_FILES[1]):
        said = table_in(folder / TEMPLATE_FILES[1], where).get("chat_template")
    try:
        named = {entry["name"]: entry["template"] for entry in said} if isinstance(said, list) else said
    except (KeyError, TypeError):
        named = 0
    texts = () if named is None else named.values() if isinstance(named, dict) else (named,)
    if not all(isinstance(text, str) for text in texts):
        raise BadCheckpoint(f"{CONFIG}: chat_template is no text", where=where, do="fetch the checkpoint again")
    if any(len(text) > TEMPLATE for text in texts):  # it may stand in a file that is large for good reason
        raise BadCheckpoint(f"its chat template is longer than {TEMPLATE:,} characters", where=where, do="remove it")
    return named


def _from_lists(folder: Path, config: dict[str, Any], where: str) -> Any:
    """From vocab.json and merges.txt, through the class that the config names."""
    import transformers

    found = [path.name for path in tokenizer_files(folder) if path.name not in (CONFIG, *TEMPLATE_FILES)]
    name = str(config.get("tokenizer_class", "")).removesuffix("Fast")
    if not {"vocab.json", "merges.txt"} <= set(found) or name not in REBUILT:
        rest = f"no {LAW}" + (f", only {', '.join(found)}" if found else "")
        raise BadCheckpoint(f"{rest}: how it cuts text is not known", where=where, do=PICKED)
    try:
        with quiet_transformers():
            return getattr(transformers, name).from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing narrower
        raise _unread(folder / "vocab.json", error, where, " or merges.txt") from error


def _refuse_words_past(tokenizer: Any, rows: int, where: str) -> None:
    """A word of the vocabulary past the embedding, which ordinary text gives: certain before any text is read."""
    backend = tokenizer.backend_tokenizer
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    words = backend.get_vocab(with_added_tokens=False)
    for word, number in words.items():
        if number >= rows and word not in added:
            text = backend.decode([number], skip_special_tokens=False)
            if number in backend.encode(text, add_special_tokens=False).ids:
                raise BadCheckpoint(
                    f"its tokenizer gives {text!r} the id {number}, the model's embedding has {rows} rows",
                    where=where,
                    do="give the tokenizer that belongs to these weights",
                )
