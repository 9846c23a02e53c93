"""Every bound of the contract, with the arithmetic that gives it."""

from __future__ import annotations

__all__ = [
    "CODECS",
    "MAX_CHANNELS",
    "MAX_CHUNK_MS",
    "MAX_ID_BYTES",
    "MAX_OFFSET_MS",
    "MAX_RATE",
    "MAX_REVIEW_CHARS",
    "MAX_SEQ",
    "MAX_UTTERANCES",
    "MAX_UTTERANCE_MS",
    "MAX_VALUE_BYTES",
    "MAX_VERSION",
    "MAX_YEAR",
    "MIN_CHUNK_MS",
    "MIN_RATE",
    "MIN_YEAR",
    "RATES",
]

# A broker takes batches of 1,048,588 bytes (message.max.bytes), a producer sends requests of 1,048,576. What is left
# of that, 48,576 bytes, holds the batch's 61 bytes, a key of 200 and the headers, also those a dead letter adds.
MAX_VALUE_BYTES = 1_000_000

# An id fills a Postgres index entry and a Kafka key; a UUID has 36 bytes, a SIP Call-ID with host some 100.
MAX_ID_BYTES = 200

CODECS = ("pcmu", "pcma", "l16", "wav", "flac")
# Those that the segmenter has a filter for: telephony, and what sound cards and codecs give.
RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MIN_RATE, MAX_RATE = RATES[0], RATES[-1]
MAX_CHANNELS = 2

# One telephone frame is 20 ms. 5 s x 48,000 frames x 2 channels x 2 bytes = 960,000 bytes: the largest chunk fits
# a record even if FLAC cannot compress it (its worst case adds 0.2 %).
MIN_CHUNK_MS, MAX_CHUNK_MS = 20, 5_000

# The audio topic keeps 7 days, so no call can be longer: 7 x 86,400,000 ms, and one chunk of 20 ms per seq.
MAX_OFFSET_MS = 604_800_000
MAX_SEQ = MAX_OFFSET_MS // MIN_CHUNK_MS

# 30 s x 16,000 samples x 2 bytes = 960,000 bytes: an utterance above 16 kHz is resampled before it is sent.
MAX_UTTERANCE_MS = 30_000

# call.closed names its utterances: 39 bytes each ("36 characters",) x 25,000 = 975,000 bytes.
MAX_UTTERANCES = 25_000

# The longest reviews of shops and app stores have 5,000 to 20,000 characters; at most 4 bytes each: 80 kB.
MAX_REVIEW_CHARS = 20_000

# Postgres bigint.
MAX_VERSION = 2**63 - 1

# There is no clock here: the store knows which months it has partitions for. This only keeps out nonsense.
MIN_YEAR, MAX_YEAR = 2000, 2099
