"""The reasons for which stream/ refuses a record, each with what the producer did wrong."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["REASONS"]

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "missing_call_id": "the record has no key; the key is the call_id",
        "invalid_call_id": "the key is not a printable UTF-8 text of 1 to 200 bytes",
        "missing_review_id": "the record has no key or the JSON no review_id",
        "invalid_review_id": "the review_id is not a printable text of 1 to 200 bytes",
        "key_mismatch": "the record's key and the review_id in the JSON differ",
        "version_mismatch": "the version in the header and in the JSON differ",
        "missing_header": "a required header is absent",
        "invalid_header": "a header is not of its type (UTF-8 text, whole number, RFC 3339 time with offset, UUID)",
        "unknown_event": "ce_type names no event of this topic",
        "unsupported_version": "the major version of the event or of CloudEvents is not one we know",
        "invalid_utf8": "the value is not UTF-8",
        "invalid_json": "the value is not a JSON object",
        "missing_field": "a required field of the JSON is absent",
        "invalid_field": "a field of the JSON has the wrong type or form",
        "out_of_range": "a number, duration or date is outside its bounds",
        "too_long": "a text or list is longer than allowed",
        "too_large": "the value is larger than 1,000,000 bytes",
        "invalid_text": "a text holds NUL or half a surrogate pair",
        "no_text": "the review has no text",
        "roles_mismatch": "the number of channel roles is not the number of channels",
        "unsupported_codec": "the codec is none of pcmu, pcma, l16, wav, flac",
        "unsupported_rate": "the sample rate is none of 8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000 Hz",
        "unsupported_channels": "there are not 1 or 2 channels",
        "empty_chunk": "the chunk holds no audio",
        "truncated": "the audio ends before its own header says, or inside a frame",
        "corrupt_audio": "the bytes are not valid WAV or FLAC",
        "header_mismatch": "rate or channels of the WAV or FLAC are not those of the record's headers",
        "duration_mismatch": "there is more or less audio than duration_ms says",
    }
)
