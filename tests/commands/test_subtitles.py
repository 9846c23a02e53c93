"""SubRip and WebVTT as players read them."""

from __future__ import annotations

from commands.subtitles import srt, vtt

LINES = [
    {"start_ms": 1_088, "end_ms": 4_397, "role": "agent", "text": "Blue Coast,\n\n this is Omar."},
    {"start_ms": 3_600_000 + 61_005, "end_ms": 3_662_000, "role": "unknown", "text": "a < b & c --> d"},
]


def test_subrip() -> None:
    assert srt(LINES) == (
        "1\n00:00:01,088 --> 00:00:04,397\nagent: Blue Coast, this is Omar.\n\n"
        "2\n01:01:01,005 --> 01:01:02,000\na < b & c --> d\n"
    )
    assert srt([]) == ""


def test_webvtt() -> None:
    assert vtt(LINES) == (
        "WEBVTT\n\n"
        "00:00:01.088 --> 00:00:04.397\n<v agent>Blue Coast, this is Omar.\n\n"
        "01:01:01.005 --> 01:01:02.000\na &lt; b &amp; c --&gt; d\n"
    )
    assert vtt([]) == "WEBVTT\n"
