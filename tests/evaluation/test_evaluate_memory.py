"""What an evaluation holds and computes at length: one chunk, three numbers per target, no logits twice."""

import pytest
import torch

from qroar_core.errors import BadOutput, Cancelled
from qroar_core.evaluation import run as evaluate
from qroar_core.models import hidden_state_file as states_module
from qroar_core.models import shared_losses
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.text import Document, windows
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec
from tests.helpers.largest_tensor import LargestTensor

TEXT = [Document(name, "".join(chr(97 + (i * i + k * i) % 26) for i in range(2100))) for k, name in enumerate("ab")]
INT4 = QuantSpec(k=QuantizerSpec(4))


@pytest.mark.slow
@pytest.mark.parametrize("stride", [None, 64])
def test_no_tensor_but_the_cache_grows_with_the_length(tiny, monkeypatch, stride):
    monkeypatch.setattr("qroar_core.models.attention.MASK_ENTRIES", 16 * 256)
    loaded, largest, ops = tiny(), {}, {}
    for length in (256, 1024):
        spec = EvaluationSpec(lengths=(length,), windows=2, stride=stride, targets=128 if stride else None, chunk=32)
        with LargestTensor(length) as mode:
            found = evaluate.run(loaded, Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT)
        assert len(found.rows) == 3
        largest[length], ops[length] = mode.largest, mode.op
    assert largest[1024] <= 1.1 * largest[256], (largest, ops)


def test_the_reference_is_projected_once_for_itself_and_once_for_each_other(tiny):
    loaded, rows = tiny(), []
    loaded.model.lm_head.register_forward_hook(lambda module, args, out: rows.append(out.numel() // out.shape[-1]))
    spec = EvaluationSpec(lengths=(64,), windows=3, targets=20)
    found = evaluate.run(loaded, Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT)
    assert [r.scales for r in found.rows] == ["identity", "identity", "rotation"]
    assert sum(rows) == (1 + 2 + 2) * 3 * 20


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Every scratch file an evaluation opens, and an empty folder for them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = []

    class Noted(HiddenStateFile):
        def __init__(self, targets):
            super().__init__(targets)
            files.append(self._file)

    monkeypatch.setattr(shared_losses, "HiddenStateFile", Noted)
    return files


def test_a_cancel_inside_a_window_leaves_no_file(tiny, opened, tmp_path):
    loaded, seen = tiny(), []
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}

    def stop(step):
        seen.append(step.fraction)
        if step.fraction > 0.6:  # two conditions: within a window of the second
            raise Cancelled("evaluate")

    spec = EvaluationSpec(lengths=(1024,), windows=2, chunk=64, rotation=False)
    with pytest.raises(Cancelled):
        evaluate.run(loaded, Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT, on_step=stop)
    assert seen == sorted(seen)
    assert seen[-1] < 0.65
    assert [file.closed for file in opened] == [True]
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(before[name], value) for name, value in loaded.model.state_dict().items())


def test_finished_evaluations_leave_no_file(tiny, opened, tmp_path):
    spec = EvaluationSpec(lengths=(32, 64), windows=2)
    evaluate.run(tiny(), Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT)
    assert [file.closed for file in opened] == [True, True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", [0, 3000, 10**9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_states_come_back_bit_for_bit_in_any_order_and_grouping(monkeypatch, held, dtype):
    monkeypatch.setitem(states_module.AT_ONCE, "cpu", held)
    everything = torch.randn(5, 30, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    with HiddenStateFile(30) as states:
        for window, rows in ((3, 2), (0, 3)):
            for target in (20, 0, 10):
                piece = everything[window : window + rows, target : target + 10]
                states.write(window, target, piece)
        for window, target, rows, length in ((0, 0, 5, 30), (2, 7, 2, 16), (4, 29, 1, 1)):
            back = states.read(window, target, (rows, length), torch.device("cpu"))
            assert back.dtype == dtype
            assert torch.equal(back, everything[window : window + rows, target : target + length])


def test_a_full_disk_says_where_and_what_to_do():
    with HiddenStateFile(4) as states:
        states._file.close()
        states._file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
        with pytest.raises(BadOutput, match=r"no room for the reference's hidden states \(No space left.*; set TMPDIR"):
            states.write(0, 0, torch.zeros(1, 4, 3))


def test_the_same_windows_as_ever(tiny):
    """Full windows end where they always did, so that results stay comparable."""
    loaded = tiny()
    found = evaluate.run(
        loaded,
        Setting(RopeSpec(), QuantSpec(), evaluation=EvaluationSpec(lengths=(32, 64), windows=2)),
        None,
        None,
        TEXT,
    )
    assert f"digest {windows(loaded.tokenizer, TEXT, 64, 2).digest}" in found.text
