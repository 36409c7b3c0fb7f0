"""Tables with one entry for every word of a Literal or a registry: none may lack a word, or have one of its own."""

from typing import get_args

import pytest

from pages.forms import pressure, setting
from pages.views import status_bar
from qroar_core.diagnostics.anisotropy.angle_null import Source
from qroar_core.diagnostics.anisotropy.table import CONTROLS
from qroar_core.diagnostics.measurement import SIDES
from qroar_core.diagnostics.pressure import figure as pressure_figure
from qroar_core.diagnostics.tail_inflation.result import TENSORS
from qroar_core.evidence.controls import figure as controls
from qroar_core.evidence.controls.result import Kind
from qroar_core.evidence.replication import figure as replication
from qroar_core.evidence.replication.claims import CLAIMS
from qroar_core.evidence.replication.result import Name, Verdict
from qroar_core.exporters import card
from qroar_core.models import text
from qroar_core.models.formats.quantized_folder import SAFETENSORS_DTYPES, SAFETENSORS_FLOATS
from qroar_core.models.own_dtype import DTYPES
from qroar_core.rope_search import figure as rope_search
from qroar_core.rope_search.result import Choice, How
from qroar_core.runs.folder import SEVERAL
from qroar_core.runs.stage_files import OF_SEVERAL
from qroar_core.scale_search import result as scale_search
from qroar_core.specs import OUTLIER_RULES, DistanceLaw, Granularity, Mode, OutlierRule, Partition
from qroar_core.specs.labels import GRANULARITY_WORDS, TEXT_WORDS

TABLES = {
    "claims": (CLAIMS, get_args(Name)),
    "verdicts of claims": (replication.LEVELS, get_args(Verdict)),
    "colours of controls": (controls.COLOURS, get_args(Kind)),
    "sources of swapped errors": (CONTROLS, get_args(Source)),
    "choices of an interpolation": (rope_search.NAMES, get_args(Choice)),
    "lines of those choices": (rope_search.LINES, get_args(Choice)),
    "how an interpolation came": (rope_search.HOW, get_args(How)),
    "partitions": (setting.PARTITION_WORDS, get_args(Partition)),
    "distance laws of the form": (pressure.LAW_WORDS, get_args(DistanceLaw)),
    "distance laws of the figure": (pressure_figure.LAW_WORDS, get_args(DistanceLaw)),
    "granularities": (GRANULARITY_WORDS, get_args(Granularity)),
    "granularities of the card": (card.GRAIN, get_args(Granularity)),
    "modes of the card": (card.EFFECT, get_args(Mode)),
    "outlier rules": (OUTLIER_RULES, get_args(OutlierRule)),
    "whether scales can act": (status_bar.VERDICTS, get_args(scale_search.Verdict.model_fields["acts"].annotation)),
    "tensors": (TENSORS, SIDES),
    "stages of several files": (OF_SEVERAL, SEVERAL),
    "embedded texts": (text.COLLECTIONS, TEXT_WORDS),
    "number formats": (DTYPES.values(), [SAFETENSORS_DTYPES[name] for name in SAFETENSORS_FLOATS]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_an_entry_for_every_word(name):
    table, words = TABLES[name]
    assert len(words) > 1
    assert sorted(map(str, table)) == sorted(map(str, words))
