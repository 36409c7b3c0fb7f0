"""Devices that are not there: tensors that say they live on `meta:0` or `meta:1` and compute on the CPU.

Inside `placed()` an operation on tensors of two devices fails as it does on two GPUs, and what waits for a device,
copies to the host and values read, is counted. torch takes `meta` for a device with an index whose tensors have no
storage, so nothing else gets in the way; code that asks for the device's type takes the way of an accelerator.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from qroar_core.models.finite import Watch
from qroar_core.models.stream import Stream

ONE, TWO = torch.device("meta:0"), torch.device("meta:1")
COPIES = ("aten._to_copy.default", "aten.copy_.default")
READS = (  # the shape of what comes out, or a value, is asked for
    "aten._local_scalar_dense.default",
    "aten.equal.default",
    "aten.nonzero.default",
    "aten.bincount.default",
    "aten.masked_select.default",
    "aten._unique2.default",
    "aten.repeat_interleave.Tensor",
)
INDEXED = ("aten.index", "aten._index_put", "aten._unsafe_index")


class Placed(torch.Tensor):
    """A CPU tensor under the name of another device. It computes inside `placed()` only."""

    @staticmethod
    def __new__(cls, held, device):
        made = {
            "strides": held.stride(),
            "storage_offset": held.storage_offset(),
            "dtype": held.dtype,
            "device": device,
        }
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **made)

    def __init__(self, held, device):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("a placed tensor outside of placed()")

    @property
    def data(self):
        """The tensor without its history; assigning swaps the storage, as with any parameter."""
        return self.detach()

    @data.setter
    def data(self, other):
        assert other.device == self.device, f"a parameter of {self.device} was given {other.device}"
        self.held = other.held

    def tolist(self):
        """Read on the host."""
        return self.cpu().tolist()

    def numpy(self, *args, **kwargs):
        """Refused, as by a GPU's tensor."""
        raise TypeError(f"can't convert {self.device} tensor to numpy")

    def __repr__(self):
        return f"Placed({self.held!r}, {self.device})"


class Machine(TorchDispatchMode):
    """Two devices and the host. `waits`: copies to the host and values read, by the line of qroar_core they are of.

    `inside`: of them those of a stream's pass, from its first chunk to the end of its last, and copies from the host
    that the host would wait for: what `torch.cuda.set_sync_debug_mode("error")` refuses.
    `made_here`: tensors that a pass made on the host out of nothing, and the most numbers in one, by that line.
    `stand_ins`: by name, what computes an operation that torch has for no CPU.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.inside, self.made_here = Counter(), Counter(), Counter()
        self.stand_ins, self.passing = {}, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        asked = kwargs.get("device") or next((x for x in args if isinstance(x, torch.device)), "cpu")
        if not types and torch.device(asked).type == "cpu":
            out = func(*args, **kwargs)  # the host's own
            if self.passing and not any(isinstance(x, torch.Tensor) for x in tree_leaves((args, kwargs))):
                self._keep_largest(out)
            return out
        with self:  # in inference mode torch hands these over whole
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        name = str(func)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        device = self._where(name, args, tensors)
        if kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            kwargs["device"] = torch.device("cpu")
            if device.type == "meta" and device.index is None:
                device = ONE
        if (
            tensors
            and tensors[-1].device.type == "meta"
            and (name in READS or (name in COPIES and device.type == "cpu") or _masks(name, args))
        ):
            self._note(self.waits)
            if self.passing:
                self._note(self.inside)
        if self.passing and _sends(name, args, kwargs, device):
            self._note(self.inside)
        out = self.stand_ins.get(name, func)(*tree_map(_held, args), **tree_map(_held, kwargs))
        if device.type == "cpu":
            return out
        if tensors and out is _held(tensors[0]):
            return tensors[0]  # in place
        return tree_map(lambda x: Placed(x, device) if isinstance(x, torch.Tensor) else x, out)

    def _where(self, name, args, tensors) -> torch.device:
        """The device that computes this; scalars and indices may come from the host, as with CUDA."""
        wide = [x for x in tensors if x.device.type != "cpu" or x.ndim > 0]
        if name in COPIES:
            return args[0].device
        if name.startswith(INDEXED) and isinstance(args[1], list | tuple):
            indices = [x for x in args[1] if isinstance(x, torch.Tensor)]
            wide = [x for x in wide if not any(x is i for i in indices)]
            wide += [i for i in indices if i.device.type != "cpu"]
        there = {x.device for x in wide}
        if len(there) > 1:
            raise RuntimeError(f"{name}: tensors on {' and '.join(sorted(map(str, there)))}")
        return there.pop() if there else torch.device("cpu")

    def _note(self, where: Counter) -> None:
        if line := self._line():
            where[line] += 1

    def _line(self) -> str:
        """The core's line that is at work, if it is one of its."""
        ours = [f for f in traceback.extract_stack() if "qroar_core" in f.filename]
        return f"{ours[-1].filename.split('qroar_core/')[-1]}:{ours[-1].lineno} {ours[-1].line}" if ours else ""

    def _keep_largest(self, made) -> None:
        if isinstance(made, torch.Tensor) and made.ndim and (line := self._line()):
            self.made_here[line] = max(self.made_here[line], made.numel())

    def watch_passes(self, monkeypatch) -> None:
        """Fill `inside` from now on."""
        run, ask = Stream.run, Watch.ask

        def watched(stream, *args, **kwargs):
            pieces = run(stream, *args, **kwargs)
            try:
                while True:
                    self.passing = True
                    piece = next(pieces, None)
                    if piece is None:
                        return
                    yield piece
            finally:
                self.passing = False

        def asked(watch):
            self.passing = False  # the one wait, behind the last chunk
            ask(watch)

        monkeypatch.setattr(Stream, "run", watched)
        monkeypatch.setattr(Watch, "ask", asked)


def _masks(name, args) -> bool:
    """Is an index a bool tensor of a device, whose true values have to be counted first?"""
    if not (name.startswith(INDEXED) and isinstance(args[1], list | tuple)):
        return False
    return any(isinstance(x, torch.Tensor) and x.dtype == torch.bool and x.device.type == "meta" for x in args[1])


def _sends(name, args, kwargs, device) -> bool:
    """Is this a copy from the host to a device that the host waits for?"""
    if name == "aten.copy_.default":
        return args[1].device.type == "cpu" and args[0].device.type == "meta" and not (*args, False)[2]
    if name == "aten._to_copy.default":
        return args[0].device.type == "cpu" and device.type == "meta" and not kwargs.get("non_blocking")
    if name.startswith(INDEXED) and args[0].device.type == "meta" and isinstance(args[1], list | tuple):
        return any(isinstance(x, torch.Tensor) and x.device.type == "cpu" for x in args[1])
    return False


def _held(x):
    return x.held if isinstance(x, Placed) else x


@contextmanager
def placed() -> Iterator[Machine]:
    """The machine with its two devices."""
    with Machine() as machine:
        yield machine


def put(module, device) -> None:
    """Move a module's own and its children's parameters and buffers there."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    moved = Placed(tensor.detach(), device)
                    held[name] = torch.nn.Parameter(moved, requires_grad=False) if held is part._parameters else moved
