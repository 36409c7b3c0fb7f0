"""The library block of the README."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def block() -> str:
    """The code as it stands in the README, its figure drawn into a file instead of a browser's window."""
    (code,) = re.findall(r"```python\n(import qroar_core as qroar\n.*?)```", README.read_text(), re.S)
    assert code.count(".show()") == 1
    return code.replace(".show()", '.write_html("noise.html")')
