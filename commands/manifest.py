"""A benchmark as a folder: manifest.jsonl with `path` and `text` a line, the audio beside it, as for the leaderboard."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.files import read_file

__all__ = ["MANIFEST", "Clip", "read_audio", "read_manifest"]

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One line of the manifest."""

    path: Path
    text: str


def read_manifest(folder: Path) -> list[Clip]:
    """Every clip; ValueError names the line that is wrong. Paths are relative to the folder."""
    clips = []
    try:
        lines = (folder / MANIFEST).read_text("utf-8").split("\n")
    except UnicodeDecodeError as err:
        raise ValueError(f"{folder / MANIFEST} is not UTF-8 text") from err
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            path, text = folder / str(entry["path"]), entry["text"]
        except (ValueError, KeyError, TypeError) as err:
            raise ValueError(f'{MANIFEST} line {number} is not {{"path": ..., "text": ...}}') from err
        if not isinstance(text, str):
            raise ValueError(f"{MANIFEST} line {number}: the text is not a string")
        if not path.is_file():
            raise ValueError(f"{MANIFEST} line {number}: {entry['path']} is missing")
        clips.append(Clip(path=path, text=text))
    if not clips:
        raise ValueError(f"{folder / MANIFEST} names no clip")
    return clips


def read_audio(path: Path) -> tuple[NDArray[np.float32], int]:
    """Float32 [n], -1..1, and its rate; channels are averaged. Raises UnreadableAudio."""
    pcm, rate = read_file(path)
    mono: NDArray[np.float32] = pcm.astype(np.float32).mean(axis=1) / np.float32(32768)
    return mono, rate
