"""The published weights of Phi-4-Multimodal, from the hub into a folder: what the speech path needs and no more.

The native layout lives at a revision of its own. The commit behind it is resolved once and written to DIR/REVISION, so
that a later run goes on with exactly the same files. Every file's hash is compared with the hub's afterwards.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from speech.phi4.config import NATIVE_REVISION, CheckpointError, read_config
from speech.phi4.hub import FetchError, explained, wanted

__all__ = ["REPOSITORY", "Listing", "RemoteFile", "download", "listing", "missing_bytes"]

REPOSITORY = "microsoft/Phi-4-multimodal-instruct"
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """`sha256` of the content, or for small files git's `blob_id` of it."""

    name: str
    size: int
    sha256: str | None
    blob_id: str | None

    def is_at(self, folder: Path) -> bool:
        """Whether the folder holds it, by name and size."""
        path = folder / self.name
        return path.is_file() and path.stat().st_size == self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What one commit holds of what the speech path needs; `left_out` are the other files."""

    repository: str
    commit: str
    licence: str
    files: tuple[RemoteFile, ...]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def listing(folder: Path, *, repository: str = REPOSITORY, revision: str | None = None) -> Listing:
    """What to download: `revision`, or the commit of DIR/REVISION, or the native layout's. Raises FetchError."""
    from huggingface_hub import HfApi

    kept = folder / "REVISION"
    if revision is None:
        revision = kept.read_text().strip() if kept.is_file() else NATIVE_REVISION
    with explained(repository, revision):
        found = HfApi().model_info(repository, revision=revision, files_metadata=True)
    files, left_out = [], []
    for one in found.siblings or ():
        if not wanted(one.rfilename):
            left_out.append(one.rfilename)
            continue
        sha256 = one.lfs.sha256 if one.lfs is not None else None
        files.append(RemoteFile(name=one.rfilename, size=one.size or 0, sha256=sha256, blob_id=one.blob_id))
    if not any(file.name == "config.json" for file in files) or found.sha is None:
        raise FetchError(f"{repository} holds no checkpoint at {revision}")
    card = found.card_data
    return Listing(
        repository=repository,
        commit=found.sha,
        licence=str(card.get("license") or "not stated") if card is not None else "not stated",
        files=tuple(sorted(files, key=lambda file: file.name)),
        left_out=tuple(sorted(left_out)),
    )


def missing_bytes(found: Listing, folder: Path) -> int:
    """Bytes that are still to come; a file that broke off counts in full."""
    return sum(file.size for file in found.files if not file.is_at(folder))


def download(found: Listing, folder: Path, *, tell: Callable[[str], None] = lambda line: None) -> None:
    """Get what is missing, going on where an earlier run broke off, then compare every hash. Raises FetchError.

    `tell` gets a line before each file. A file whose hash is wrong is removed, so that the next run gets it anew.
    """
    from huggingface_hub import hf_hub_download

    with explained(found.repository, found.commit):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        missing = missing_bytes(found, folder)
        if missing > free:
            raise FetchError(f"{missing / 1e9:.1f} GB are to come and {folder} has {free / 1e9:.1f} GB free")
    # config.json first: the old layout is refused by it, before gigabytes come, and leaves no REVISION.
    for file in sorted(found.files, key=lambda file: file.name != "config.json"):
        if not file.is_at(folder):
            tell(f"{file.name}  {file.size / 1e6:,.1f} MB")
            if file.name == "config.json":
                _check_layout(found)
            with explained(found.repository, found.commit):
                hf_hub_download(found.repository, file.name, revision=found.commit, local_dir=folder)
        if file.name == "config.json":
            (folder / "REVISION").write_text(found.commit + "\n")
    wrong = [file for file in found.files if not _same(file, folder)]
    for file in wrong:
        (folder / file.name).unlink(missing_ok=True)
    if wrong:
        names = ", ".join(file.name for file in wrong)
        raise FetchError(f"not what the hub says they are, and removed: {names}; run it again")
    notes = folder / ".cache" / "huggingface"  # the downloader's; all is there
    if notes.is_dir():
        shutil.rmtree(notes, ignore_errors=True)
        with suppress(OSError):  # somebody else's, too
            notes.parent.rmdir()


def _check_layout(found: Listing) -> None:
    """Of what the hub has, elsewhere: a folder that is refused stays as it is."""
    from huggingface_hub import hf_hub_download

    with TemporaryDirectory() as elsewhere:
        with explained(found.repository, found.commit):
            hf_hub_download(found.repository, "config.json", revision=found.commit, local_dir=elsewhere)
        try:
            read_config(Path(elsewhere))
        except CheckpointError as err:
            raise FetchError(str(err).replace(elsewhere, f"{found.repository} at {found.commit}")) from err


def _same(file: RemoteFile, folder: Path) -> bool:
    if not file.is_at(folder):
        return False
    if file.sha256 is not None:
        return _digest(folder / file.name, hashlib.sha256()) == file.sha256
    if file.blob_id is not None:
        return _digest(folder / file.name, hashlib.sha1(f"blob {file.size}\0".encode())) == file.blob_id
    return True


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
