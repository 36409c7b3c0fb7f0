"""Places in the hub's cache on this disk: which repository and which commit a path belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qroar_core.models.hub_files import SHARD

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A place in the hub's cache: a repository at a commit."""

    repo: str
    commit: str
    revisions: tuple[str, ...]  # branches and tags known to be this commit
    inside: str = ""  # the rest of the path, below the snapshot

    @property
    def words(self) -> str:
        """`org/name on the Hugging Face hub, revision main, commit 0123456789ab`."""
        named = f"revision {', '.join(self.revisions)}, " if self.revisions else ""
        return f"{self.repo} on the Hugging Face hub, {named}commit {self.commit[:12]}"

    @property
    def label(self) -> str:
        """A short name: the repository's; for a GGUF file its owner's and the file's."""
        if self.inside.lower().endswith(".gguf"):
            stem = SHARD.sub("", self.inside.split("/")[-1])[: -len(".gguf")]
            return "/".join((*self.repo.split("/")[:-1], stem))
        return "/".join(filter(None, (self.repo, self.inside)))


def snapshot_of(path: Path) -> Snapshot | None:
    """The snapshot that a path lies in (…/models--org--name/snapshots/COMMIT), or None."""
    for place in (path.absolute(), path.resolve()):
        parts = place.parts
        for at in range(len(parts) - 2):
            if parts[at].startswith("models--") and parts[at + 1] == "snapshots" and COMMIT.fullmatch(parts[at + 2]):
                storage, commit = Path(*parts[: at + 1]), parts[at + 2]
                repo = parts[at].removeprefix("models--").replace("--", "/")
                return Snapshot(repo, commit, _revisions(storage, commit), "/".join(parts[at + 3 :]))
    return None


def _revisions(storage: Path, commit: str) -> tuple[str, ...]:
    refs = storage / "refs"
    try:
        files = [path for path in sorted(refs.rglob("*")) if path.is_file() and path.suffix != ".tmp"]
        return tuple(path.relative_to(refs).as_posix() for path in files if path.read_text().strip() == commit)
    except (OSError, ValueError):  # a cache that cannot be read in full still names the commit
        return ()
