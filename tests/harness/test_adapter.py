"""The adapter against lm-evaluation-harness's own HFLM on the same unquantized model, request by request."""

from __future__ import annotations

import pytest

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

from qroar_core.errors import BadSpec, BadText  # noqa: E402
from qroar_core.models.condition import Condition  # noqa: E402
from qroar_core.models.text import split  # noqa: E402

WINDOW = 256


@pytest.fixture(scope="module")
def wide():
    """The demo model in float64: sums of hundreds of log-probabilities agree to the last digits."""
    from qroar_core.models.load import run as load_model

    return load_model("demo", device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def oracle(wide):
    from lm_eval.models.huggingface import HFLM

    made = HFLM(
        pretrained=wide.model, tokenizer=wide.tokenizer, batch_size=1, max_length=WINDOW, softmax_dtype="float64"
    )
    made.tokenizer.pad_token_id = 0
    return made


def adapter(loaded, length=WINDOW, **options):
    from qroar_core.harness.adapter import ConditionLM

    return ConditionLM(loaded, Condition(), length, **options)


def instances(kind, arguments):
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=i, metadata=("mine", i, 1))
        for i, one in enumerate(arguments)
    ]


def speech(start, stop):
    return split("heldout")[0].text[start:stop]


PAIRS = [
    ("The state of the Union is", " strong"),
    ("The state of the Union is", " a cat"),
    ("The Congress of the United ", "States"),  # a space at the end goes to the continuation
    ("", "Fellow-Citizens of the Senate"),  # from BOS or EOS alone
    *((speech(0, 900), text) for text in (" the", " of the House", " the people of the United States")),
]


def test_log_likelihoods_are_hflms(wide, oracle):
    asked = instances("loglikelihood", PAIRS)
    found = adapter(wide, batch=3).loglikelihood(asked)
    right = oracle.loglikelihood(asked, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in right], abs=1e-5)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in right]
    assert len({round(value, 3) for value, _ in found}) == len(PAIRS)


def test_whole_texts_are_read_in_hflms_windows(wide, oracle):
    asked = instances("loglikelihood_rolling", [(speech(0, 200),), (speech(300, 3300),), ("",)])
    mine = adapter(wide)
    found = mine.loglikelihood_rolling(asked)
    assert found == pytest.approx(oracle.loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-5)
    assert found[2] == 0.0
    ((windows,),) = mine.pieces.values()
    assert windows == -(-len(wide.tokenizer.encode(speech(300, 3300))) // WINDOW) > 2


def test_answers_are_hflms(wide, oracle):
    greedy = {"until": [".", "\n"], "max_gen_toks": 24, "do_sample": False}
    asked = instances("generate_until", [(speech(at, at + 300), greedy) for at in (0, 500, 900)])
    asked += instances("generate_until", [("The Congress", {"until": [], "max_gen_toks": 12})] * 2)
    found = adapter(wide).generate_until(asked)
    assert found == oracle.generate_until(asked, disable_tqdm=True)
    assert all(found)
    assert "." not in found[0]


def test_bos_is_given_and_never_predicted(wide):
    text = speech(0, 200)
    ids = wide.tokenizer.encode(text)
    mine = adapter(wide, bos="on")
    assert mine.tok_encode(text) == [0, *ids]
    assert mine.tok_encode("<|endoftext|>" + text) == [0, *ids]
    assert adapter(wide, bos="off").tok_encode(text) == ids
    (rolled,) = mine.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,)]))
    ((behind, _),) = mine.loglikelihood(instances("loglikelihood", [("", text)]))
    assert rolled == pytest.approx(behind, abs=1e-9)


def test_what_does_not_fit_is_refused_or_counted(wide):
    long, pair = speech(0, 2000), instances("loglikelihood", [(speech(0, 2000), " the")])
    tokens = len(wide.tokenizer.encode(long))
    with pytest.raises(
        BadSpec, match=rf"^--length: a request of mine takes {tokens} tokens, more than 64; give --length {tokens}"
    ):
        adapter(wide, 64).loglikelihood(pair)
    mine = adapter(wide, 64, truncate=True)
    ((cut, _),) = mine.loglikelihood(pair)
    assert mine.cut == {"mine": [tokens - 64]}
    ids = wide.tokenizer.encode(long)[-64:]
    ((alone, _),) = adapter(wide).loglikelihood(instances("loglikelihood", [(wide.tokenizer.decode(ids), " the")]))
    assert cut == pytest.approx(alone, abs=1e-9)
    with pytest.raises(BadSpec, match="an answer alone of mine takes 65 tokens"):
        mine.generate_until(instances("generate_until", [("a", {"max_gen_toks": 64})]))
    with pytest.raises(BadSpec, match=rf"a request of mine takes {tokens + 8} tokens, more than 64.*--truncate"):
        adapter(wide, 64).generate_until(instances("generate_until", [(long, {"max_gen_toks": 8})]))


def test_with_bos_a_cut_keeps_it(wide):
    mine = adapter(wide, 64, truncate=True, bos="on")
    assert mine._fitting("mine", (0, 5, 6, 7, 8), 2) == (0, 7, 8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"do_sample": True, "temperature": 0.7}, "mine samples its answers; set do_sample: false"),
        ({"num_beams": 4}, "mine asks for num_beams, which greedy decoding has not"),
    ],
)
def test_what_is_not_greedy_is_refused(wide, given, words):
    with pytest.raises(BadSpec, match=words):
        adapter(wide).generate_until(instances("generate_until", [("a", given)]))


def test_a_chat_template_that_is_not_there_is_one_line(wide):
    with pytest.raises(BadText, match=r"^--chat: the chat template cannot be applied"):
        adapter(wide).apply_chat_template([{"role": "user", "content": "a"}])
