"""A model's name as the name of a file or folder."""

from __future__ import annotations


def disk_name(name: str, most: int) -> str:
    """`org--name` for `org/name`; a long one is cut in its middle: its owner and its quantization are what tell it.

    Args:
        most: characters it may have.
    """
    whole = name.replace("/", "--")
    tail = most // 2
    return whole if len(whole) <= most else f"{whole[: most - tail - 2]}--{whole[-tail:]}"
