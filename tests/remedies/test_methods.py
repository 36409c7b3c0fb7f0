"""A remedy is one place: a file, or a folder with what it says of itself and its maths; menus need only the former."""

import subprocess
import sys
from pathlib import Path

from qroar_core.remedies import methods
from qroar_core.remedies.prepare import PREPARED
from qroar_core.specs import REMEDIES

FOLDER = Path(methods.__file__).parent
MENU = "import sys; from qroar_core.remedies.methods import BY_NAME; print(*BY_NAME); assert 'torch' not in sys.modules"


def test_menus_list_every_remedy_without_torch():
    said = subprocess.run([sys.executable, "-c", MENU], cwd=FOLDER.parents[2], capture_output=True, text=True)
    assert said.stderr == ""
    assert said.stdout.split() == [*methods.BY_NAME]


def test_every_file_and_folder_is_a_remedy_and_every_folder_has_its_maths():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in FOLDER.glob("*/prepare.py")}
    assert (
        folders
        == {*PREPARED}
        == {
            *("awq", "gptq", "smooth_attention", "smoothquant", "kivi"),
            *("pair_scales", "tied_maps", "value_maps", "value_rotation", "clipped_ranges", "static_scales"),
            *("protected_layers", "first_last_layers"),
        }
    )
    assert files | folders == {*REMEDIES} == {*methods.BY_NAME}
    assert not files & folders
