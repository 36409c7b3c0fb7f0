"""A finished quantized folder whose scales are edited."""

from qroar_core.exporters.format import Format

FORMATS = {
    "quantized": Format(
        50,
        "the quantized folder's own codes, scaled",
        "its own readers",
        transforms="band scales",
        copies=True,
    ),
}
