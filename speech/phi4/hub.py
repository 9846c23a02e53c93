"""Weights by a revision of the hub, `hub:OWNER/NAME@REVISION`: what the speech path needs of it, in the hub's own cache.

`earful phi4 fetch` is for a folder of one's own, and compares hashes; this is for machines that share such a cache. What the
cache holds needs no hub.
"""

from __future__ import annotations

import re
from pathlib import Path

from speech.phi4.config import NATIVE_REVISION, CheckpointError, read_config

__all__ = ["local_folder"]

_NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_WANTED = ["*.json", "*.safetensors", "*.txt", "LICENSE*", "README.md"]
_UNWANTED = ["vision-lora/*"]


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
    folder = _download(repository, revision, ["config.json"])
    try:
        read_config(folder)
    except CheckpointError as err:
        raise CheckpointError(str(err).replace(str(folder), f"{repository} at {revision}")) from err
    return _download(repository, folder.name, _WANTED)  # of the commit that was resolved


def _download(repository: str, revision: str, wanted: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted, ignore_patterns=_UNWANTED))
    except (RepositoryNotFoundError, RevisionNotFoundError) as err:
        raise CheckpointError(f"the hub has no {repository} at {revision}, or not for you") from err
    except (HfHubHTTPError, OSError) as err:
        raise CheckpointError(f"the hub does not answer; HF_ENDPOINT names another one ({type(err).__name__})") from err
