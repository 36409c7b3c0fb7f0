"""What an export format says of itself: the `FORMATS` of a file of `exporters/formats` hold one or several.

Nothing here costs an import of a model library. The writer is the module of `exporters` with the name of that file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """One format that a checkpoint is written in.

    Args:
        place: in menus and tables; smaller comes first.
        what: as menus call it.
        readers: who loads it.
        transforms: which kinds of transform it can hold.
        copies: it edits finished files, and so is offered by the command line and the library alone.
        whole_file: it is one file, not a folder that transformers loads.
        own_weights: a folder with the weights as they are: plain transformers and llama.cpp's converter take it.
        takes_group_size: how many inputs of a row share a scale can be chosen.
        takes_dtype: the number format of the weights can be chosen.
        holds_cache_scales: calibrated scales of an fp8 K/V cache can lie in it.
        llama_cpp_bound: nats, the mean |d ln p| between llama.cpp and transformers on the same weights, dequantized,
            that `verify` takes for rounding of activations.
    """

    place: int
    what: str
    readers: str
    transforms: str = "every kind"
    copies: bool = False
    whole_file: bool = False
    own_weights: bool = False
    takes_group_size: bool = False
    takes_dtype: bool = False
    holds_cache_scales: bool = False
    llama_cpp_bound: float = 0.02
