"""Full and sliding windows against transformers' own forward, read the way its perplexity guide reads a text."""

import json
import math
import statistics

import pytest
import torch

from qroar_core.errors import BadSpec, BadText
from qroar_core.evaluation import run as evaluate
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document, windows
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec

TEXT = [
    Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900))),
    Document("b", "".join(chr(97 + (i * 7 + i // 5) % 26) for i in range(900))),
]
INT4 = QuantSpec(k=QuantizerSpec(4))
BLOCKS = QuantSpec(k=QuantizerSpec(4, "channel", group_size=16, residual=16))  # chunks of 20 become 32
TARGETS, STRIDE, LENGTHS = 24, 8, (32, 64)


def guide(log_p, ids, length, stride):
    """Log-probabilities (position, vocabulary) as huggingface.co/docs/transformers/perplexity scores them.

    `log_p` gives those of one window's tokens. Token by token, later windows only score what is new to them.
    """
    scored, previous = {}, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        table = log_p(ids[begin:end])
        for position in range(max(previous, begin + 1), end):
            scored[position] = table[position - 1 - begin]
        previous = end
        if end == len(ids):
            break
    return scored


def transformers_own(loaded):
    with torch.inference_mode():
        return lambda ids: loaded.model(ids[None]).logits[0].log_softmax(-1)


def under(loaded, condition, chunk):
    def log_p(ids):
        with open_stream(loaded, condition, len(ids), chunk=chunk) as stream:
            hidden = torch.cat([piece.hidden for piece in stream.run(ids)], 1)[0]
        return (hidden @ loaded.model.lm_head.weight.T).log_softmax(-1)

    return log_p


@pytest.mark.parametrize("quant", [INT4, BLOCKS], ids=["per token", "blocks"])
def test_sliding_windows_score_as_the_guide_does(tiny, quant):
    loaded = tiny(dtype=torch.float64)
    spec = EvaluationSpec(lengths=LENGTHS, windows=4, targets=TARGETS, stride=STRIDE, chunk=20, rotation=False)
    found = evaluate.run(loaded, Setting(RopeSpec(), quant, evaluation=spec), None, None, TEXT)
    texts = windows(loaded.tokenizer, TEXT, LENGTHS[1] + TARGETS - STRIDE, 4).ids
    for length in LENGTHS:
        nll, ref_nll, kl, same = [], [], [], []
        for ids in texts:
            read = ids[-(length + TARGETS - STRIDE) :]
            tables = [
                guide(transformers_own(loaded), read, length, STRIDE),
                guide(under(loaded, Condition(quant=quant), 20), read, length, STRIDE),
            ]
            places = range(len(read) - TARGETS, len(read))
            ref, mine = (torch.stack([table[p] for p in places]) for table in tables)
            wanted = read[-TARGETS:, None]
            ref_nll.append(-ref.gather(1, wanted)[:, 0])
            nll.append(-mine.gather(1, wanted)[:, 0])
            kl.append((ref.exp() * (ref - mine)).sum(1))
            same.append(ref.argmax(1) == mine.argmax(1))
        reference, quantized = (
            next(r for r in found.rows if (r.length, r.model) == (length, model))
            for model in ("reference", "quantized")
        )
        assert found.window_nll[f"{length}/reference/identity"] == pytest.approx([float(n.mean()) for n in ref_nll])
        assert found.window_nll[f"{length}/quantized/identity"] == pytest.approx([float(n.mean()) for n in nll])
        assert found.window_kl[f"{length}/quantized/identity"] == pytest.approx([float(n.mean()) for n in kl], rel=1e-9)
        assert found.window_kl[f"{length}/reference/identity"] == [0.0] * 4
        assert reference.nll_se == pytest.approx(statistics.stdev([float(n.mean()) for n in ref_nll]) / 2)
        assert (reference.tokens, reference.kl_mean, reference.same_top1) == (4 * TARGETS, 0.0, 1.0)
        assert quantized.kl_mean == pytest.approx(float(torch.cat(kl).mean()), rel=1e-9)
        assert quantized.kl_p99 == pytest.approx(float(torch.cat(kl).quantile(0.99)), rel=1e-9)
        assert quantized.same_top1 == pytest.approx(float(torch.cat(same).double().mean()))
        assert quantized.close.ln_ratio == pytest.approx(float((torch.cat(nll) - torch.cat(ref_nll)).mean()), rel=1e-6)
    by_place = torch.stack(nll).reshape(4, TARGETS // STRIDE, STRIDE).mean((0, 1))  # of the longest length
    assert found.positions.position == list(range(LENGTHS[1] - STRIDE, LENGTHS[1]))
    assert found.positions.curves["quantized/identity"] == pytest.approx(by_place.tolist())
    said = json.loads(found.to_json())
    assert (said["stride"], said["text"].split(", digest")[0]) == (
        8,
        "4 windows, 24 targets each, windows sliding by 8",
    )


def test_sliding_by_all_targets_is_a_full_window(tiny):
    loaded = tiny()
    one, other = (
        evaluate.run(
            loaded,
            Setting(
                RopeSpec(),
                INT4,
                evaluation=EvaluationSpec(lengths=(48, 96), windows=3, targets=16, stride=stride, rotation=False),
            ),
            None,
            None,
            TEXT,
        )
        for stride in (None, 16)
    )
    assert one.stride is None
    assert other.stride == 16
    assert one.rows == other.rows
    assert one.positions == other.positions
    assert "digest" in one.text
    assert "sliding" not in one.text


@pytest.mark.parametrize(
    ("lengths", "targets", "stride", "expected"),
    [
        ((64,), None, None, (63, 63)),
        ((64, 256), None, None, (32, 32)),
        ((64,), None, 16, (48, 16)),
        ((64, 256), None, 16, (32, 16)),
        ((64, 256), None, 50, (50, 50)),
        ((64, 256), 150, 50, (150, 50)),
        ((64,), 10, None, (10, 10)),
    ],
)
def test_how_many_targets_and_how_many_a_window(lengths, targets, stride, expected):
    assert evaluate.scored(EvaluationSpec(lengths=lengths, targets=targets, stride=stride), lengths) == expected


def test_a_stride_that_cannot_be_is_refused(tiny):
    with pytest.raises(BadSpec, match="25 targets are no multiple of the stride 8"):
        EvaluationSpec(targets=25, stride=8)
    with pytest.raises(BadSpec, match="a stride of 64 needs lengths above that, got 64"):
        EvaluationSpec(lengths=(64, 128), stride=64)
    with pytest.raises(BadSpec, match="stride must be at least 1"):
        EvaluationSpec(stride=0)
    with pytest.raises(BadSpec, match="a stride of 64 needs a length above that"):  # the native window is 64
        evaluate.run(tiny(), Setting(RopeSpec(), INT4, evaluation=EvaluationSpec(stride=64)), None, None, TEXT)
    with pytest.raises(BadText, match="one window needs 1012"):  # 512 read by the first window, 500 by the others
        evaluate.run(
            tiny(),
            Setting(RopeSpec(), INT4, evaluation=EvaluationSpec(lengths=(512,), targets=600, stride=100, windows=2)),
            None,
            None,
            TEXT,
        )


def test_more_targets_than_the_shortest_length_holds(tiny):
    """Only sliding windows can: each target still sees at least length - stride tokens."""
    spec = EvaluationSpec(lengths=(32,), windows=2, targets=60, stride=10, rotation=False)
    loaded = tiny(dtype=torch.float64)
    found = evaluate.run(loaded, Setting(RopeSpec(), QuantSpec(), evaluation=spec), None, None, TEXT)
    assert [row.tokens for row in found.rows] == [120]
    scores = []
    for ids in windows(loaded.tokenizer, TEXT, 32 + 60 - 10, 2).ids:
        table = guide(transformers_own(loaded), ids, 32, 10)
        scores += [float(table[place][ids[place]]) for place in range(len(ids) - 60, len(ids))]
    assert found.rows[0].ppl == pytest.approx(math.exp(-statistics.fmean(scores)))
