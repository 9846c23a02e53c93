"""The hub: which files of a checkpoint there the speech path needs, its errors in a sentence, and weights by revision.

`hub:OWNER/NAME@REVISION` is kept in the hub's own cache, for machines that share one; what that holds needs no hub.
`earful phi4 fetch` is for a folder of one's own, and compares hashes.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from speech.phi4.config import NATIVE_REVISION, CheckpointError, read_config

__all__ = ["FetchError", "HubAway", "explained", "local_folder", "wanted"]

_NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_TOP = ("*.json", "*.safetensors", "*.txt", "LICENSE*", "README.md")
_ADAPTER = "speech-lora/*"
_AWAY = "the hub does not answer; HF_ENDPOINT names another one. What is there already stays"
#: Errors of a file, not of a connection: full, too large, not ours, read only, not a folder, broken.
_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO}
)


class FetchError(Exception):
    """The files cannot be had, or are not what the hub says they are; the sentence says what to do."""


class HubAway(FetchError):
    """The hub does not answer."""


def wanted(name: str) -> bool:
    """Whether the speech path needs this file: neither vision nor code."""
    return any(fnmatchcase(name, one) for one in ([_ADAPTER] if "/" in name else _TOP))


@contextmanager
def explained(repository: str, revision: str) -> Iterator[None]:
    """The hub's many errors and the disk's as FetchError, or HubAway."""
    from httpx import HTTPError
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def refused_or_away(err: BaseException | None) -> FetchError:
        if isinstance(err, HfHubHTTPError) and (status := err.response.status_code) < 500:
            return FetchError(f"the hub refuses {repository} at {revision}: status {status}")
        return HubAway(_AWAY)

    try:
        yield
    except LocalEntryNotFoundError as err:
        # One of the next kind by its class; but it says that the cache lacks a file, and its cause why the hub gave none.
        raise refused_or_away(err.__cause__) from err
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as err:
        raise FetchError(f"the hub has no {repository} at {revision}, or not for you") from err
    except (HTTPError, HfHubHTTPError, OSError) as err:
        if isinstance(err, OSError) and err.errno in _DISK:
            raise FetchError(f"{err.filename or 'the disk'}: {err.strerror}; what is there stays") from err
        raise refused_or_away(err) from err


def local_folder(weights: str | Path) -> Path:
    """The folder that `weights` names; one of the hub is downloaded first where the cache lacks it.

    Without a revision that of the native layout. The old layout is refused by its config.json, before gigabytes are
    fetched. Raises CheckpointError with what to do.
    """
    if not str(weights).startswith("hub:"):
        return Path(weights)
    name = _NAME.fullmatch(str(weights))
    if name is None:
        raise CheckpointError(f"{weights} is no revision of the hub: write hub:OWNER/NAME@REVISION")
    repository, revision = name[1], name[2] or NATIVE_REVISION
    try:
        folder = _download(repository, revision, ("config.json",))
        try:
            read_config(folder)
        except CheckpointError as err:
            raise CheckpointError(str(err).replace(str(folder), f"{repository} at {revision}")) from err
        commit = folder.name  # what the revision was resolved to
        _download(repository, commit, (_ADAPTER,))
        return _download(repository, commit, _TOP)
    except FetchError as err:
        raise CheckpointError(str(err)) from err


def _download(repository: str, revision: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    # The hub's own patterns cross folders: "*.json" would take those of every adapter.
    others = None if patterns == (_ADAPTER,) else ["*/*"]
    with explained(repository, revision):
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=list(patterns), ignore_patterns=others)
        )
