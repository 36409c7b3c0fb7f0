"""What went wrong at the hub, in one line: where the fault lies and what to do about it."""

from __future__ import annotations

import errno
import re

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from qroar_core.errors import BadCheckpoint
from qroar_core.models.cache_folder import FULL
from qroar_core.models.model_argument import HubModel

NOTHING = "does not have it"
LOG_IN = "log in (hf auth login) or set HF_TOKEN"
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST)


def causes(error: BaseException) -> list[BaseException]:
    """An error and what it was raised from, the outermost first."""
    found: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and now not in found:
        found.append(now)
        now = now.__cause__ or now.__context__
    return found


def is_transport(error: BaseException) -> bool:
    """Did the connection break, so that it may be tried again? One that cannot be made was tried often enough."""
    faults = causes(error)
    if isinstance(error, LocalEntryNotFoundError):
        return False
    answered = any(isinstance(fault, HfHubHTTPError | OfflineModeIsEnabled | httpx2.ProxyError) for fault in faults)
    return not answered and any(isinstance(fault, httpx2.TransportError) for fault in faults)


def explained(error: BaseException, asked: str, model: HubModel, held: str = NOTHING) -> BadCheckpoint:
    """The one line for an error of huggingface_hub, of the connection, or of the disk it writes to.

    Args:
        held: what of it the cache has.
    """
    what, do = _words(error, model, held)
    return BadCheckpoint(what, where=asked, do=do)


def _words(error: BaseException, model: HubModel, held: str) -> tuple[str, str]:
    faults = causes(error)
    for fault in faults:  # the disk's faults also come inside others
        if (isinstance(fault, OSError) and fault.errno in FULL) or "No space left on device" in str(fault):
            return (
                f"the disk of the hub's cache is full ({constants.HF_HUB_CACHE})",
                "free some room, or set HF_HOME to a folder on a larger disk",
            )
    for fault in faults:
        if isinstance(fault, HfHubHTTPError):
            return _answer(fault, model)
    if any(isinstance(fault, OfflineModeIsEnabled) for fault in faults):
        return (
            f"the hub's cache ({constants.HF_HUB_CACHE}) {held}, and HF_HUB_OFFLINE forbids to ask the hub",
            "unset HF_HUB_OFFLINE, or give a local folder",
        )
    for fault in faults:
        if isinstance(fault, httpx2.TransportError):
            return (
                f"no connection to {constants.ENDPOINT} ({_short(fault)}), and the cache {held}",
                "check the connection, or give a local folder",
            )
    for fault in faults:
        if isinstance(fault, OSError) and fault.errno in UNWRITABLE:
            return (
                f"the hub's cache cannot be written ({fault.strerror}: {fault.filename or constants.HF_HUB_CACHE})",
                "set HF_HOME to a folder that can be written",
            )
    if isinstance(error, HFValidationError):
        return f"not a name on the hub ({_short(error)})", "give org/name"
    return f"the hub's answer cannot be used ({_short(error)})", "try again, or give a local folder"


def _answer(error: HfHubHTTPError, model: HubModel) -> tuple[str, str]:
    """What an answer of the hub that is no success means."""
    status, token = error.response.status_code, get_token()
    page = f"{constants.ENDPOINT}/{model.repo}"
    if isinstance(error, GatedRepoError):
        if token:
            return (
                "the repository is gated, and the account of your token has no access to it",
                f"accept the licence at {page} with that account, or set HF_TOKEN to a token of one that has",
            )
        return "the repository is gated", f"accept the licence at {page}, then {LOG_IN}"
    if status == 401 and token:
        return "the hub does not take your token (401)", f"check the name, then {LOG_IN} again"
    if isinstance(error, DisabledRepoError):
        return "the hub has disabled this repository", "choose another one"
    if isinstance(error, RevisionNotFoundError):
        return f"no revision {model.revision or 'main'}", f"choose a branch, tag or commit of {page}"
    if isinstance(error, EntryNotFoundError):
        return f"a file of it is missing on the hub ({_short(error)})", "try again"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository on the hub, or a private one", f"check the name; for a private one {LOG_IN}"
    if status == 403:
        return "the hub refuses access (403)", f"see {page}, then {LOG_IN}"
    if status == 429:
        return "the hub has had too many requests from here (429)", f"wait some minutes, or {LOG_IN}"
    return f"the hub answers {status}", "try again later, or give a local folder"


def _short(error: BaseException) -> str:
    line = re.sub(r"\s+", " ", str(error)).strip()
    return f"{type(error).__name__}: {line[:120]}" if line else type(error).__name__
