"""`earful phi4`: from the hub to the first word."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from commands.context import UNAVAILABLE, WRONG, console, errors, fail
from commands.phi4_fetch import REPOSITORY, download, listing, missing_bytes
from commands.torch_needed import need_torch
from errors import EarfulError
from settings import PROJECT
from speech.phi4.hub import FetchError, HubAway

__all__ = ["phi4"]

phi4 = typer.Typer(
    no_args_is_help=True,
    help="Phi-4-Multimodal's weights: get them, check them, try them.\n\nExample: earful phi4 check weights/phi4",
)
Folder = Annotated[Path, typer.Argument(file_okay=False, help="The checkpoint's folder")]
Present = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The checkpoint's folder")]


@phi4.command("fetch")
def fetch(
    folder: Folder,
    revision: Annotated[
        str | None, typer.Option(help="Commit or branch; default: that of DIR/REVISION, else the native layout's")
    ] = None,
    repository: Annotated[str, typer.Option(help="On the hub")] = REPOSITORY,
) -> None:
    """Download what the speech path needs, without the vision adapter; goes on where it broke off.

    Example: earful phi4 fetch weights/phi4
    """
    try:
        found = listing(folder, repository=repository, revision=revision)
        for file in found.files:
            typer.echo(f"{file.size / 1e6:>12,.1f} MB  {file.name}")
        missing = missing_bytes(found, folder)
        near = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        typer.echo(
            f"{found.repository} at {found.commit}: {found.size / 1e9:.2f} GB, {missing / 1e9:.2f} GB to come; "
            f"{shutil.disk_usage(near).free / 1e9:.1f} GB free. Left out: {len(found.left_out)} files"
        )
        download(found, folder, tell=lambda line: errors.print(line, highlight=False))
    except HubAway as err:
        fail(str(err), UNAVAILABLE)
    except FetchError as err:
        fail(str(err))
    console.print(f"complete, hashes compared. Licence: {found.licence}", highlight=False)
    console.print(f"Next: earful phi4 check {folder}", highlight=False, soft_wrap=True)


@phi4.command("check")
def check(folder: Present) -> None:
    """Layout, configuration and adapter of a checkpoint, and the memory it needs; reads no weights.

    Example: earful phi4 check weights/phi4
    """
    need_torch()
    from commands.phi4_check import CheckpointError, describe

    try:
        lines = describe(folder)
    except CheckpointError as err:
        fail(str(err))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"Next: earful phi4 verify {folder}", highlight=False, soft_wrap=True)


@phi4.command("verify")
def verify(
    folder: Present,
    samples: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Recordings with their texts, as samples/calls")
    ] = PROJECT / "samples" / "calls",
    reference: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="transformers loads this checkpoint instead; default: the same"
        ),
    ] = None,
) -> None:
    """The samples with the adapter on and off, and 8 clips token by token against transformers; exit 1 on a mismatch.

    Example: earful phi4 verify weights/phi4
    """
    need_torch()
    from commands.phi4_check import CheckpointError
    from commands.phi4_verify import read_clips
    from commands.phi4_verify import verify as compare
    from speech.phi4.memory import TooSmall

    try:
        clips = read_clips(samples)
    except (OSError, KeyError, TypeError, ValueError) as err:
        fail(
            f"{samples} holds no recordings with their texts, as samples/calls does ({type(err).__name__}: {err})",
            WRONG,
        )
    try:
        wrong = compare(folder, clips, reference=reference, tell=lambda line: typer.echo(line))
    except (CheckpointError, TooSmall, EarfulError) as err:
        fail(str(err))
    if wrong:
        fail("; ".join(wrong))
    typer.echo("verified")
