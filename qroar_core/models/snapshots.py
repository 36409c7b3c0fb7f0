"""Places in the hub's cache on this disk: which repository and which commit a path belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qroar_core.models.hub_files import SHARD
from qroar_core.plain_file import read_text

COMMIT = re.compile(r"[0-9a-f]{40}")
REF = 1024  # bytes that a branch's file may have: it holds a commit


@dataclass(frozen=True, slots=True)
class HubSnapshot:
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
        """What it is called: the repository; with a file in it behind, a GGUF file without suffix and shard.

        Repositories of one owner hold files of one name, so a file's name alone tells no model.
        """
        inside = self.inside
        if inside.lower().endswith(".gguf"):
            inside = SHARD.sub("", inside)[: -len(".gguf")]
        return "/".join(filter(None, (self.repo, inside)))


def snapshot_of(path: Path) -> HubSnapshot | None:
    """The snapshot that a path lies in (…/models--org--name/snapshots/COMMIT), or None."""
    for place in (path.absolute(), path.resolve()):
        parts = place.parts
        for at in range(len(parts) - 2):
            if parts[at].startswith("models--") and parts[at + 1] == "snapshots" and COMMIT.fullmatch(parts[at + 2]):
                storage, commit = Path(*parts[: at + 1]), parts[at + 2]
                repo = parts[at].removeprefix("models--").replace("--", "/")
                return HubSnapshot(repo, commit, _revisions(storage, commit), "/".join(parts[at + 3 :]))
    return None


def snapshots_in(storage: Path) -> list[Path]:
    """The snapshots of a repository's folder in the cache (models--org--name), newest last; empty for any other."""
    if not storage.name.startswith("models--"):
        return []
    found = [path for path in storage.glob("snapshots/*") if COMMIT.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _revisions(storage: Path, commit: str) -> tuple[str, ...]:
    refs = storage / "refs"
    try:
        files = [path for path in sorted(refs.rglob("*")) if path.is_file() and path.suffix != ".tmp"]
        return tuple(path.relative_to(refs).as_posix() for path in files if read_text(path, REF).strip() == commit)
    except (OSError, ValueError):  # a cache that cannot be read in full still names the commit
        return ()
