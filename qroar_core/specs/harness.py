"""What is asked of lm-evaluation-harness: which tasks, on how many documents, read how."""

from __future__ import annotations

from dataclasses import dataclass

from qroar_core.checks import Compact, at_least, check_numbers, of_kind, whole
from qroar_core.errors import BadSpec


@dataclass(frozen=True, slots=True, repr=False)
class HarnessSpec(Compact):
    """Which tasks of the harness, and how they are put to the model."""

    tasks: tuple[str, ...]  # names of tasks, groups or tags, or paths of YAML files
    include_path: str = ""  # a folder of further YAML tasks
    fewshot: int | None = None  # examples before each question; None: as the task says
    limit: int | None = None  # first documents of each task; None: all
    chat: bool = False  # ask through the tokenizer's chat template
    truncate: bool = False  # cut what stands before a question from the left where it does not fit; else refuse it
    batch: int | None = None  # requests read at once; None: as many as have 2,048 tokens together
    length: int | None = None  # tokens the model reads at most; None: the setup's
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks) or not all(self.tasks):
            raise BadSpec(f"tasks must be at least one, each once, got {', '.join(self.tasks)!r}")
        for name, least in (("fewshot", 0), ("limit", 1), ("batch", 1), ("length", 2)):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least)
        for name in ("chat", "truncate"):
            of_kind(name, getattr(self, name), bool, "True or False")
        at_least("chunk", self.chunk, 1)
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")
