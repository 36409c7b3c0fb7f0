"""The band kernel as the file keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from qroar_core.diagnostics.null import NullRow
from qroar_core.result import PerBand, Result
from qroar_core.result_shapes import axes

NATIVE = "the model's native RoPE within its own window"


class NativeKernel(Result):
    """The kernel of the native RoPE up to the native window: the side peaks that are there without any stretch."""

    LOCAL: ClassVar = ("bucket",)

    distance: Annotated[list[int], axes("bucket")]
    high: Annotated[list[list[float]], axes("band", "bucket")]  # greatest value per bucket of distances, [band][bucket]
    side_peak: Annotated[PerBand, axes("band")]  # None where the kernel has none
    side_peak_at: Annotated[list[int], axes("band")]  # tokens, -1 where there is none


class AliasingKernel(Result):
    """Band kernel C_b(distance): least and greatest value per bucket of distances, [band][bucket]."""

    LOCAL: ClassVar = ("bucket",)

    distance: Annotated[list[int], axes("bucket")]
    low: Annotated[list[list[float]], axes("band", "bucket")]
    high: Annotated[list[list[float]], axes("band", "bucket")]
    side_peak_at: Annotated[list[int], axes("band")]
    side_peak: PerBand = []  # highest side peak of each band; empty: an older file
    null: NativeKernel | None = None  # None: an older file

    def contradictions(self) -> Iterator[str]:
        """A null without what it is a null of."""
        if self.null is not None and not self.side_peak:
            yield "null: without side_peak"

    def null_rows(self) -> list[NullRow]:
        """The highest side peak of every band; no row where neither kernel has one, and none from an older file."""
        if self.null is None:
            return []
        return [
            NullRow(
                diagnostic="Aliasing",
                quantity=f"highest side peak of the kernel, band {b}",
                measured=peak,
                null=native,
                control=NATIVE if native is not None else f"{NATIVE}, without one",
            )
            for b, (peak, native) in enumerate(zip(self.side_peak, self.null.side_peak, strict=True))
            if peak is not None or native is not None
        ]
