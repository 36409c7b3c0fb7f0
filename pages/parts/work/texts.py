"""The texts of a setting, for the stages."""

from __future__ import annotations

from qroar_core.models.text import SPLITS, Texts, split
from qroar_core.runs.setting import Setting


def texts(setting: Setting) -> Texts:
    """Calibration, development and held-out documents of the setting's collection.

    Raises:
        BadText: the text is no embedded collection: a run of the command line on a file of its own.
    """
    return {name: split(name, setting.text, setting.bos_word) for name in SPLITS}
