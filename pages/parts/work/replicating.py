"""Queue the test of the papers' claims under several settings, and find it again."""

from __future__ import annotations

from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results.replication import Replication
from qroar_core.runs import evidence
from qroar_core.runs.setting import Setting
from qroar_core.specs import QuantSpec, ReplicationSpec, RopeSpec

Pairs = tuple[tuple[RopeSpec, QuantSpec], ...]


def key(loaded: LoadedModel, setting: Setting, pairs: Pairs, spec: ReplicationSpec) -> tuple:
    """Every setting tested belongs to the key, with the specs of its diagnosis and search."""
    return stage_key("replicate", loaded, setting, spec, pairs, setting.search, setting.diagnosis)


def start(loaded: LoadedModel, setting: Setting, pairs: Pairs, spec: ReplicationSpec) -> None:
    """Queue the replication unless it is there already."""
    submit(key(loaded, setting, pairs, spec), _replicate, loaded, setting, pairs, spec,
           label=f"Test the claims with {loaded.name}")  # fmt: skip


def _replicate(loaded: LoadedModel, setting: Setting, pairs: Pairs, spec: ReplicationSpec,
               on_step: OnStep) -> Replication:  # fmt: skip
    return evidence.replication(loaded, setting, pairs, spec, texts(setting), on_step=on_step)
