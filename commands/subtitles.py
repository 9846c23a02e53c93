"""Lines of a transcript as subtitles: SubRip (.srt) and WebVTT (.vtt)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["srt", "vtt"]

Line = Mapping[str, Any]  # start_ms, end_ms, role, text


def srt(lines: Sequence[Line]) -> str:
    """SubRip: numbered blocks, `role: text` where the role is known."""
    blocks = []
    for number, line in enumerate(filter(_has_text, lines), start=1):
        named = "" if line["role"] == "unknown" else f"{line['role']}: "
        blocks.append(
            f"{number}\n{_time(line['start_ms'], ',')} --> {_time(line['end_ms'], ',')}\n{named}{_flat(line['text'])}\n"
        )
    return "\n".join(blocks)


def vtt(lines: Sequence[Line]) -> str:
    """WebVTT: the role is the voice of a cue."""
    blocks = ["WEBVTT\n"]
    for line in filter(_has_text, lines):
        text = _escaped(_flat(line["text"]))
        voiced = text if line["role"] == "unknown" else f"<v {_escaped(line['role'])}>{text}"
        blocks.append(f"{_time(line['start_ms'], '.')} --> {_time(line['end_ms'], '.')}\n{voiced}\n")
    return "\n".join(blocks)


def _has_text(line: Line) -> bool:
    """Not so where an answer was cut off before it."""
    return bool(line["text"])


def _time(ms: int, point: str) -> str:
    seconds, rest = divmod(ms, 1_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _flat(text: str) -> str:
    """On one line: an empty line would end the block."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
