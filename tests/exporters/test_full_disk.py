"""A disk that fills while a file is written: one line, exit 2, and nothing half-written, in every writer.

The disk is real as far as a process can tell: the kernel refuses to let any file grow past a limit (RLIMIT_FSIZE).
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LIMITED = """
import resource, sys
from qroar_core.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def told(forks):
    """`told(limit, *arguments)`: the one line of a command that must fail with exit 2, where no file may grow further.

    limit: bytes.
    """

    def line(limit, *arguments):
        ended = forks.run(["-c", LIMITED.format(limit=limit), *map(str, arguments)], ROOT, ROOT)
        lines = [line for line in ended.stderr.splitlines() if "replaces" not in line]
        assert (ended.returncode, len(lines)) == (2, 1), ended.stderr
        return lines[0]

    return line


@pytest.mark.parametrize("format", ["hf", "w4a16", "gguf-f16"])
def test_an_export(told, tmp_path, format):
    more = ("--group-size", 32) if format == "w4a16" else ()
    line = told(100_000, "export", "demo", "--format", format, *more, "--out", tmp_path / "o")
    assert line.startswith(f"qroar: {tmp_path}/o: ")
    assert "File too large" in line
    assert line.endswith("; free some room or choose another folder")
    assert list(tmp_path.iterdir()) == []


def test_a_result(told, tmp_path):
    line = told(50, "diagnose", "demo", "--length", 128, "--rope", "linear", "--factor", 1, "--out", tmp_path / "o")
    assert line == f"qroar: {tmp_path}/o/diagnosis.json: File too large; free some room or choose another folder"
    assert list((tmp_path / "o").iterdir()) == []


def test_the_scratch_file_of_an_evaluation(told, tmp_path):
    line = told(10_000, "evaluate", "demo", "--lengths", 64, "--k", "int8", "--out", tmp_path / "o")
    assert "no room for the reference's hidden states (File too large); set TMPDIR to a folder with room" in line
    assert not (tmp_path / "o").exists()


def test_no_temporary_folder_at_all(monkeypatch):
    import tempfile

    from qroar_core.errors import BadOutput
    from qroar_core.models.hidden_state_file import HiddenStateFile

    def none(**options):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", none)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(BadOutput, match=r"TMPDIR: no room .* \(No usable temporary directory found\); set TMPDIR"):
        HiddenStateFile(4)
