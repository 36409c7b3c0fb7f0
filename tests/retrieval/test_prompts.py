"""Retrieval prompts as text: the number stands once, at its place; a whole prompt is what its tokenizer makes."""

import copy
import re

import pytest
import torch

from qroar_core.errors import BadSpec, BadText
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.read_tokenizer import write_tokenizer
from qroar_core.models.text import Document, split
from qroar_core.models.token_ids import know_rows
from qroar_core.models.tokenizer import read_tokenizer
from qroar_core.retrieval.answers import outcome_of
from qroar_core.retrieval.prompts import prompt, prompts
from qroar_core.specs import RetrievalSpec
from tests.models.small_vocabularies import sentencepiece, write_gguf

NEEDLES = {
    "passkey": re.compile(r"\n\nThe pass key is (?P<number>\d{5})\. Remember it\.\n\n"),
    "needles": re.compile(r"\n\nThe number of the (?P<key>\w+) is (?P<number>\d{5})\.\n\n"),
}
ASKED = {
    "passkey": re.compile(r"\n\nWhat is the pass key in the text above\? The pass key is$"),
    "needles": re.compile(r"\n\nWhat is the number of the (?P<key>\w+) in the text above\? The number of the \w+ is$"),
}
TEXT = [Document("a", "".join("the quick brown fox, "[i % 21] for i in range(4000)))]
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}[end]{% endfor %}{% if add_generation_prompt %}[me]{% endif %}"
)


def read(tokenizer, p):
    """The prompt's text, the text between preface and question without its needles, and each needle's place in it."""
    text = tokenizer.decode(p.ids.tolist())
    asked = ASKED[p.task].search(text)
    body = text[text.index("afterwards.\n\n") + len("afterwards.\n\n") : asked.start()]
    pieces, found, at = [], [], 0
    while match := NEEDLES[p.task].search(body, at):  # needles may touch: each keeps its own line breaks
        pieces.append(body[at : match.start()])
        found.append((len("".join(pieces)), match))
        at = match.end()
    return text, "".join([*pieces, body[at:]]), found, asked


@pytest.mark.parametrize("task", ["passkey", "needles"])
@pytest.mark.parametrize("depth", [0.0, 0.3, 0.5, 1.0])
def test_the_answer_stands_once_at_the_asked_depth(byte_tokenizer, task, depth):
    """Byte tokens: a character is a token, so the depth can be read off the text."""
    spec = RetrievalSpec(choices=4, slack=3)
    for trial in range(4):
        p = prompt(byte_tokenizer, TEXT, spec, task, 1200, depth, trial)
        text, filler, found, asked = read(byte_tokenizer, p)
        assert len(p.ids) == 1200 - len(" 12345") - 3
        assert text.count(p.answer) == 1
        assert text[p.answer_at : p.answer_at + 6] == f" {p.answer}"
        assert len(found) == (4 if task == "needles" else 1)
        (target,) = [place for place, m in found if m["number"] == p.answer]
        assert abs(target - depth * len(filler)) <= 4  # half a word and its space
        if depth in (0, 1):
            assert target == depth * len(filler)
        assert filler in TEXT[0].text
        assert all(target in (0, len(filler)) or filler[target] == " " for target, _ in found)
        if task == "needles":
            (mine,) = [m for _, m in found if m["key"] == asked["key"]]
            assert mine["number"] == p.answer
            assert len({m["key"] for _, m in found}) == 4


@pytest.mark.parametrize("task", ["passkey", "needles"])
def test_a_prompt_of_pieces_is_what_the_tokenizer_makes_of_the_whole_text(demo, task):
    spec = RetrievalSpec(tasks=(task,), trials=3)
    made = list(prompts(demo.tokenizer, split("heldout"), spec, 512))
    assert len(made) == 15
    for p in made:
        text, _, found, _ = read(demo.tokenizer, p)
        assert demo.tokenizer(text)["input_ids"] == p.ids.tolist()
        assert len(p.ids) == 512 - len(p.choices[0]) - 8
        assert torch.equal(p.ids[p.answer_at : p.answer_at + len(p.choices[0])], p.choices[0])
        assert text.count(p.answer) == 1
        others = [demo.tokenizer.decode(c.tolist()).strip() for c in p.choices[1:]]
        assert len({p.answer, *others}) == 5
        assert len({len(c) for c in p.choices}) == 1
        assert [text.count(other) for other in others] == [1 if task == "needles" else 0] * 4
        assert {m["number"] for _, m in found} == ({p.answer, *others} if task == "needles" else {p.answer})


def test_trials_are_the_same_again_and_unlike_each_other(demo):
    def again(seed=0):
        return list(prompts(demo.tokenizer, split("heldout"), RetrievalSpec(depths=(0.0, 0.5), seed=seed), 400))

    one, two, other = again(), again(), again(1)
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(one, two, strict=True))
    assert len({(p.answer, p.origin) for p in one}) == len(one) == 20
    assert not any(a.answer == b.answer for a, b in zip(one, other, strict=True))


def test_a_chat_template_wraps_the_question_and_the_answer_begins_behind_it(byte_tokenizer):
    chatty = copy.deepcopy(byte_tokenizer)
    chatty.chat_template = TEMPLATE
    asked = chatty.decode(prompt(chatty, TEXT, RetrievalSpec(), "passkey", 900, 0.5, 0).ids.tolist())
    assert asked.startswith("[user]A pass key is hidden")
    assert asked.endswith("in the text above?[end][me]The pass key is")
    plain = chatty.decode(prompt(chatty, TEXT, RetrievalSpec(chat=False), "passkey", 900, 0.5, 0).ids.tolist())
    assert plain.endswith("in the text above? The pass key is")
    chatty.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(BadText, match=r"chat template cannot be applied .*no.*; ask without it \(--no-chat, or"):
        prompt(chatty, TEXT, RetrievalSpec(), "passkey", 900, 0.5, 0)


def test_a_token_past_the_embedding_names_what_holds_it_and_what_helps(byte_tokenizer):
    """The template's end mark is token 256 of an embedding of 256 rows; then a digit of every prompt is past it."""
    chatty = copy.deepcopy(byte_tokenizer)
    chatty.chat_template = TEMPLATE
    chatty.add_tokens(["[end]"], special_tokens=True)
    know_rows(chatty, 256)
    with pytest.raises(BadText) as caught:
        prompt(chatty, TEXT, RetrievalSpec(), "passkey", 900, 0.5, 0)
    assert str(caught.value) == (
        "chat template: it holds the token '[end]' with id 256, the model's embedding has 256 rows; ask without it "
        '(--no-chat, or "Ask through the chat template" off), or give a checkpoint whose embedding was extended'
    )
    assert prompt(chatty, TEXT, RetrievalSpec(chat=False), "passkey", 900, 0.5, 0).ids is not None  # as it says
    know_rows(chatty, 100)
    for chat in (True, False):  # neither another text nor no template helps: the question itself cannot be asked
        with pytest.raises(BadText, match=r"^retrieval prompt: .* 100 rows; give a checkpoint whose embedding was ext"):
            prompt(chatty, TEXT, RetrievalSpec(chat=chat), "passkey", 900, 0.5, 0)


def test_the_bos_that_a_tokenizer_puts_before_a_text_comes_first_and_once(byte_tokenizer):
    from tokenizers import processors

    opened = copy.deepcopy(byte_tokenizer)
    symbol = opened.convert_ids_to_tokens(7)
    opened.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{symbol} $A", special_tokens=[(symbol, 7)]
    )
    opened.bos_token = symbol
    ids = prompt(opened, TEXT, RetrievalSpec(), "needles", 1200, 0.5, 0).ids.tolist()
    assert ids[0] == 7
    assert ids.count(7) == 1


def test_what_does_not_fit_is_no_prompt_and_the_tightest_that_fits_has_no_text(byte_tokenizer):
    spec = RetrievalSpec(choices=4, slack=3)
    least = next(
        n for n in range(100, 1200) if prompt(byte_tokenizer, TEXT, spec, "passkey", n, 0.5, 0).ids is not None
    )
    tight = prompt(byte_tokenizer, TEXT, spec, "passkey", least, 0.5, 0)
    _, filler, found, _ = read(byte_tokenizer, tight)
    assert filler == ""
    assert len(found) == 1
    assert len(tight.ids) == least - tight.budget
    left = prompt(byte_tokenizer, TEXT, spec, "passkey", least - 1, 0.5, 0)
    assert left.ids is None
    assert left.answer == prompt(byte_tokenizer, TEXT, spec, "passkey", least - 1, 0.5, 0).answer


def test_a_text_too_short_is_refused_with_what_it_has(byte_tokenizer):
    with pytest.raises(BadText, match=r"longest document has 4000 tokens, the prompt needs \d+ of text; give a longer"):
        prompt(byte_tokenizer, TEXT, RetrievalSpec(), "passkey", 5000, 0.5, 0)


@pytest.mark.parametrize(
    ("said", "ended", "outcome"),
    [
        (" 48213", False, "hit"),
        (" 48213.\n\nThe", False, "hit"),
        (" **48213**", True, "hit"),
        (" 482", False, "cut off"),
        (" 482", True, "wrong"),
        (" 482.", False, "wrong"),
        (" 483", False, "wrong"),
        (" 482137", False, "wrong"),
        (" 13 or 48213", False, "wrong"),
        (" the first of", False, "no number"),
        (" not known.", True, "wrong"),
        ("", False, "no number"),
    ],
)
def test_what_an_answer_counts_as(said, ended, outcome):
    assert outcome_of(said, "48213", ended) == outcome


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tasks": ()}, "tasks must be at least one"),
        ({"tasks": ("haystack",)}, "unknown task 'haystack'; choose one of passkey, needles"),
        ({"depths": (0.5, 0.5)}, "each once"),
        ({"depths": (1.5,)}, r"a share of the text in \[0, 1\], got 1.5"),
        ({"depths": (float("nan"),)}, "got nan"),
        ({"lengths": (1,)}, "length must be at least 2"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"choices": 1}, "choices must lie in 2 to 32"),
        ({"choices": 33}, "choices must lie in 2 to 32"),
        ({"slack": 0}, "slack must be at least 1"),
        ({"confidence": 1.0}, "confidence must lie"),
    ],
    ids=str,
)
def test_a_spec_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(BadSpec, match=said):
        RetrievalSpec(**wrong)


@pytest.mark.parametrize("task", ["passkey", "needles"])
@pytest.mark.parametrize("chat", [False, True])
def test_sentencepiece_prompts_have_no_space_that_no_one_wrote(task, chat, tmp_path):
    """A tokenizer that writes a space before every text: none inside the prompt, as if the text were coded whole."""
    tokens, types, scores = sentencepiece()
    keys = {"eos_token_id": 2, "chat_template": TEMPLATE}
    path = write_gguf(tmp_path / "m.gguf", tokens, types, scores=scores, model="llama", pre=None, **keys)
    write_tokenizer(read_header(path), tmp_path, "m")
    tokenizer = read_tokenizer(tmp_path, "m", len(tokens))
    spec = RetrievalSpec(tasks=(task,), trials=2, chat=chat)
    documents = [Document("start", "The text begins at once." + split("heldout")[0].text[:9000])]
    for p in prompts(tokenizer, documents, spec, 900):
        text = tokenizer.decode(p.ids.tolist(), skip_special_tokens=True)
        assert f" {p.answer}." in text
        assert "  " not in text
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert whole == [i for i in p.ids.tolist() if i != tokenizer.bos_token_id]
        assert chat or p.ids[0] == tokenizer.bos_token_id
