"""Downloads a model from the hub. Run by `models.hub` as a process of its own, so that a cancelled download ends.

huggingface_hub reads in blocking calls and threads that no flag stops; a process can be stopped at any time.
It gets one request (JSON) as its argument and answers in lines of JSON: progress, then what was found or one error.
Files go into the cache that huggingface_hub and all that build on it share.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError, RevisionResolutionError, XetDownloadError
from huggingface_hub.file_download import repo_folder_name

from qroar_core.errors import BadCheckpoint, QRoarError
from qroar_core.models.checkpoint_files import limit
from qroar_core.models.hub_errors import explained, is_transport
from qroar_core.models.hub_files import INDEX, chosen
from qroar_core.models.model_argument import HubModel
from qroar_core.plain_file import read_bytes

CHUNK = 2**18  # bytes between two reports; huggingface_hub's 10 MiB are a minute on a slow line
TRIES = 5  # failed connections in a row, without a byte between them, before the download is given up
PAUSE = 1.0  # seconds before a connection is tried again
EVERY = 0.1  # seconds between two reports

Say = Callable[[dict[str, Any]], None]


class _Meter:
    """Counts bytes over all files, and reports them."""

    def __init__(self, say: Say, total: int) -> None:
        self.say, self.total, self.done, self.said = say, total, 0, 0.0

    def add(self, count: float) -> None:
        self.done += int(count)
        now = time.monotonic()
        if now - self.said >= EVERY:
            self.said = now
            self.say({"done": self.done, "total": self.total})

    def bar(self) -> type:
        """The progress bar's class for huggingface_hub: what it calls of tqdm, counted here and drawn nowhere."""
        meter = self

        class Bar:
            n = 0

            def __init__(self, *_: Any, total: int | None = None, **__: Any) -> None:
                self.total = total

            def update(self, count: float | None = 1) -> None:
                meter.add(count or 0)

            def update_transfer(self, count: float | None = 1) -> None:
                """Bytes on the wire, which are not what is missing on disk."""

            def set_postfix_str(self, *_: Any, **__: Any) -> None: ...

            set_transfer_postfix_str = set_postfix_str

            def close(self) -> None: ...

            def __enter__(self) -> Bar:
                return self

            def __exit__(self, *_: Any) -> None: ...

        return Bar


def download(asked: str, model: HubModel, say: Say) -> dict[str, str]:
    """Fetch what is missing of a model; returns the path of its folder, or of its GGUF file.

    Raises:
        BadCheckpoint: one line that says why it cannot be had.
    """
    with _explaining(asked, model):
        try:
            info = HfApi().model_info(model.repo, revision=model.revision or None, files_metadata=True)
        except RevisionNotFoundError:
            raise
        except (httpx2.HTTPError, OSError) as error:  # no connection, no access: what is in the cache still serves
            found = _cached(asked, model, error)
            if found is None:
                raise
            return found
        assert info.sha is not None, "the hub answers without a commit"
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        etags = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or ()}

        def read(name: str) -> bytes:
            return read_bytes(Path(hf_hub_download(model.repo, name, revision=info.sha)), limit(INDEX))

        names = chosen(sizes, read, asked, model.named, model.quant, model.file)
        missing = [name for name in names if not _there(model.repo, str(info.sha), name, etags[name])]
        total = sum(sizes[name] for name in missing)
        _require_room(asked, total)
        meter = _Meter(say, total)
        paths = [_fetched(model.repo, name, str(info.sha), meter, name in missing) for name in names]
        with suppress(httpx2.HTTPError, OSError, RevisionResolutionError):
            HfApi().resolve_revision(model.repo, revision=model.revision or None)  # noted, to be found without the hub
    return {"path": _model_path(paths, names, model)}


def _model_path(paths: list[str], names: list[str], model: HubModel) -> str:
    return paths[0] if model.quant or model.file else paths[0].removesuffix(f"/{names[0]}")


def _fetched(repo: str, name: str, commit: str, meter: _Meter, counts: bool) -> str:
    failed, before = 0, meter.done
    while True:
        start = meter.done
        try:
            return hf_hub_download(repo, name, revision=commit, tqdm_class=meter.bar() if counts else None)
        except Exception as error:
            failed = 1 if meter.done > start else failed + 1
            if not is_transport(error) or failed >= TRIES:
                raise
            meter.done = before  # huggingface_hub keeps no half of a file
            time.sleep(PAUSE)


def _storage(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def _there(repo: str, commit: str, name: str, etag: str | None) -> bool:
    storage = _storage(repo)
    return (storage / "snapshots" / commit / name).exists() or bool(etag and (storage / "blobs" / etag).exists())


def _require_room(asked: str, needed: int) -> None:
    folder = Path(constants.HF_HUB_CACHE).absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise BadCheckpoint(
            f"{_amount(needed)} are to be downloaded and {_amount(free)} are free on the disk of {place}",
            where=asked,
            do="free some room, or set HF_HOME to a folder on a larger disk",
        )


def _amount(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _cached(asked: str, model: HubModel, why: Exception) -> dict[str, str] | None:
    """The model as the cache has it, or None where it has nothing of this revision.

    Raises:
        BadCheckpoint: the cache has a part of it.
    """
    try:
        resolved = HfApi().resolve_revision(model.repo, revision=model.revision or None, local_files_only=True)
    except (RevisionResolutionError, OSError, ValueError):
        return None
    folder = _storage(model.repo) / "snapshots" / str(resolved.resolved)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.exists() and not p.is_dir()}
    if not names:
        return None
    try:
        wanted = chosen(
            names, lambda name: read_bytes(folder / name, limit(INDEX)), asked, model.named, model.quant, model.file
        )
    except QRoarError as lack:
        held = f"has only a part of it ({lack.what})"
        reason = explained(why, asked, model, held)
        what = reason.what if held in reason.what else f"{reason.what}, and the cache {held}"
        do = f"{reason.do}, or {lack.do}" if lack.do.startswith("name one") else reason.do  # what the cache does have
        raise BadCheckpoint(what, where=asked, do=do) from lack
    return {"path": _model_path([str(folder / name) for name in wanted], wanted, model)}


@contextmanager
def _explaining(asked: str, model: HubModel) -> Iterator[None]:
    try:
        yield
    except QRoarError:
        raise
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError, EntryNotFoundError, XetDownloadError) as error:
        raise explained(error, asked, model) from error


def _say(line: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except OSError:  # nobody reads any more: the process that asked is gone
        os._exit(1)


def main(request: str) -> None:
    """Answer one request on standard output."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    told = json.loads(request)
    asked, model = told.pop("asked"), HubModel(**told)
    try:
        _say(download(asked, model, _say))
    except QRoarError as problem:
        _say({"error": [problem.what, problem.where, problem.do]})
    except KeyboardInterrupt:
        os._exit(130)  # huggingface_hub has taken its half of a file away


if __name__ == "__main__":
    main(sys.argv[1])
