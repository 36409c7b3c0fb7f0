"""An interpolation from a file, as `tune-rope` writes it."""

from __future__ import annotations

from pathlib import Path

from qroar_core.errors import BadSpec
from qroar_core.runs.file_kinds import interpolation_of
from qroar_core.specs import RopeSpec


def load_rope(path: Path | str) -> RopeSpec:
    """Read the interpolation of a file, such as the rope.json that `tune-rope` writes, for `Setup(rope=...)`.

    Args:
        path: of a JSON file with the fields of `Rope` that its method reads.
    Returns:
        The interpolation, the same to the last digit.
    Raises:
        BadSpec: missing, a file of another kind, or values that an interpolation cannot take.
    """
    if not isinstance(path, str | Path):
        raise BadSpec(f"path must be that of a file, got {path!r}", where="load_rope", do='give "rope.json"')
    path = Path(path).expanduser()
    try:
        return interpolation_of(path)
    except BadSpec as problem:
        raise BadSpec(problem.what, where=str(path), do=problem.do) from problem
