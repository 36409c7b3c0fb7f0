"""The largest tensor a computation makes, its K/V cache aside: what tells whether memory grows with the context."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest storage made under it that is neither a K/V cache of `length` tokens nor a view of one."""

    def __init__(self, length):
        super().__init__()
        self.length, self.caches, self.largest, self.op = length, set(), 0, ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if func is torch.ops.aten.zeros.default and tensor.ndim == 6 and tensor.shape[4] == self.length:
                self.caches.add(storage.data_ptr())
            elif storage.data_ptr() not in self.caches and storage.nbytes() > self.largest:
                self.largest, self.op = storage.nbytes(), f"{func} {tuple(tensor.shape)}"
        return out
