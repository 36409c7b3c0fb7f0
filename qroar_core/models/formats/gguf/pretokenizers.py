r"""How text is cut into words before BPE merges, by llama.cpp's name for it (`tokenizer.ggml.pre`).

A GGUF file does not hold its tokenizer's split rule, only a name that stands for it; a wrong rule gives other
tokens without an error. A rule here is a list of regular expressions, applied one after another to what the
ones before left whole: each match is a word, and so is each gap between matches.
Where llama.cpp had to rewrite the expression of the models' own tokenizer.json for its engine (case classes of
tekken and gpt-4o, `(?i:...)` of the contractions), the models' own stands here. The two differ for capitals outside
ASCII, combining marks and for the long s.
Source: ggml-org/llama.cpp src/llama-vocab.cpp, llm_tokenizer_bpe and load (names, merges, bos).
"""

from __future__ import annotations

from dataclasses import dataclass

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT = r"\p{N}"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # contractions
WORD = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
SPACE = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACE
LLAMA3 = SHORT + WORD + r"|\p{N}{1,3}" + REST
QWEN2 = SHORT + WORD + r"|\p{N}" + REST
QWEN35 = SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACE
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACE


def _cased(ending: str, digits: str) -> str:
    """Words cut where their case changes: aWord, then WORDs."""
    head = r"[^\r\n\p{L}\p{N}]?"
    return f"{head}{UPPER}*{LOWER}+{ending}|{head}{UPPER}+{LOWER}*{ending}|{digits}{SLASHED}"


TEKKEN = _cased("", r"\p{N}")
GPT4O = _cased(SHORT + "?", r"\p{N}{1,3}")
ASCII_MARKS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
MARKED_WORD = r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + SPACE
DEEPSEEK_V3 = (r"\p{N}{1,3}", r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+", ASCII_MARKS + MARKED_WORD)
DEEPSEEK_HAN = r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+"
CASED_LETTERS = (  # of deepseek-llm
    r"A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}"
    r"\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}"
    r"\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}"
    r"\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}"
    r"\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}"
    r"\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}"
    r"\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}"
    r"\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}"
    r"\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}"
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}"
    r"\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}"
    r"\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}"
    r"\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}"
)
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{CASED_LETTERS}]+",
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+",
    r"\s+$",
    DEEPSEEK_HAN,
    r"\p{N}+",
)
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_HAN, DIGIT)
FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]")
BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{0964}\x{06D4}\x{060C})]+"
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
SEED_CODER = SHORT + WORD + r"|\p{N}| ?[^\s\p{L}\p{N}\r\n]+" + SPACE
EXAONE_MOE = (
    SHORT + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """`steps`: the expressions in their order. `mergeless`: a word of the vocabulary is taken before any merge.

    `bos`: a text begins with BOS where the file does not say (`tokenizer.ggml.add_bos_token`).
    """

    steps: tuple[str, ...]
    mergeless: bool = False
    bos: bool = False


def _named(names: str, *steps: str, mergeless: bool = False, bos: bool = False) -> dict[str, SplitRule]:
    return dict.fromkeys(names.split(), SplitRule(steps, mergeless, bos))


SPLIT_RULES: dict[str, SplitRule] = {
    **_named("gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum", GPT2),
    **_named("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", DIGIT, GPT2),
    **_named("llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", LLAMA3, mergeless=True, bos=True),
    **_named("dbrx smaug-bpe glm4 chatglm-bpe", LLAMA3),
    **_named("qwen2 stablelm2 deepseek-r1-qwen hunyuan megrez grok-2 solar-open kormo", QWEN2),
    **_named("qwen35", QWEN35),
    **_named("deepseek-llm", *DEEPSEEK_LLM),
    **_named("deepseek-coder", *DEEPSEEK_CODER),
    **_named("deepseek-v3 hunyuan-dense joyai-llm hy_v4", *DEEPSEEK_V3),
    **_named("falcon", *FALCON),
    **_named("tekken", TEKKEN, mergeless=True, bos=True),
    **_named("gpt-4o llama4 kanana2 talkie minimax-m2", GPT4O),
    **_named("superbpe", r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
    **_named("bailingmoe bailingmoe2 llada-moe", BAILING),
    **_named("seed-coder", SEED_CODER),
    **_named("exaone-moe", EXAONE_MOE),
    **_named("poro-chat bloom gpt3-finnish", BLOOM),
    **_named("viking", BLOOM, DIGIT),
}
RULE_NAMES: dict[tuple[tuple[str, ...], bool], str] = {  # (steps, mergeless): the first of its names
    (rule.steps, rule.mergeless): name for name, rule in reversed(SPLIT_RULES.items())
}
