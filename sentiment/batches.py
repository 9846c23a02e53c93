"""Examples as padded torch batches: sorted into lengths so that little padding is computed, shuffled by seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sentiment.data import POLARITIES, Sentence
from sentiment.encode import EncodedPair, EncodedWords, TextEncoder, pad

__all__ = [
    "Pair", "PairBatch", "TagBatch", "Tagged", "length_batches", "pair_batch", "pairs", "shared_batch", "shared_batches",
    "tag_batch", "tagged",
]  # fmt: skip

IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One aspect of one sentence, encoded, with its label."""

    encoded: EncodedPair
    label: int
    domain: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch:
    """int64 [batch, tokens] each; labels [batch]."""

    ids: Tensor
    mask: Tensor
    types: Tensor
    aspect: Tensor
    labels: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What PolarityNet takes."""
        return self.ids, self.mask, self.types, self.aspect


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """One window of a sentence with a tag per word: 0 O, 1 B, 2 I."""

    words: EncodedWords
    tags: list[int]
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagBatch:
    """int64 [batch, tokens] each; labels only at the first token of each word."""

    ids: Tensor
    mask: Tensor
    labels: Tensor


def pairs(sentences: Sequence[Sentence], encoder: TextEncoder, *, second: bool = True) -> list[Pair]:
    """One example per mention; `second`: with the aspect as second segment."""
    return [
        Pair(
            encoded=encoder.pair(sentence, m.start, m.end, second=second),
            label=POLARITIES.index(m.polarity),
            domain=s.domain,
            group=s.group,
        )
        for s in sentences
        for sentence in [encoder.sentence(s.text)]
        for m in s.mentions
    ]


def pair_batch(chosen: Sequence[Pair], pad_id: int, device: str = "cpu") -> PairBatch:
    """Padded to the longest."""
    ids = [p.encoded.ids for p in chosen]
    return PairBatch(
        ids=torch.from_numpy(pad(ids, pad_id)).to(device),
        mask=torch.from_numpy(pad([[1] * len(r) for r in ids])).to(device),
        types=torch.from_numpy(pad([p.encoded.types for p in chosen])).to(device),
        aspect=torch.from_numpy(pad([p.encoded.aspect for p in chosen])).to(device),
        labels=torch.tensor([p.label for p in chosen]).to(device),
    )


def shared_batch(
    chosen: Sequence[Pair], pad_id: int, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """ids, mask, types [different token sequences, tokens], aspect [chosen, tokens], row [chosen]: PolarityNet takes them."""
    tokens = [p.encoded.read for p in chosen]
    different = dict(zip(tokens, chosen, strict=True))
    rows = {one: n for n, one in enumerate(different)}
    read = pair_batch(list(different.values()), pad_id, device)
    aspect = torch.from_numpy(pad([p.encoded.aspect for p in chosen])).to(device)
    row = torch.tensor([rows[one] for one in tokens]).to(device)
    return read.ids, read.mask, read.types, aspect, row


def tagged(sentences: Sequence[Sentence], encoder: TextEncoder) -> list[Tagged]:
    """Words that a mention touches are tagged; the first of each mention is B."""
    out = []
    for s in sentences:
        for window in encoder.words(s.text):
            tags = [0] * len(window.spans)
            for m in s.mentions:
                inside = [i for i, (a, b) in enumerate(window.spans) if a < m.end and m.start < b]
                for i in inside:
                    tags[i] = 1 if i == inside[0] else 2
            out.append(Tagged(words=window, tags=tags, domain=s.domain))
    return out


def tag_batch(chosen: Sequence[Tagged], pad_id: int) -> TagBatch:
    """Padded to the longest."""
    ids = [t.words.ids for t in chosen]
    labels = []
    for t in chosen:
        row = [IGNORED] * len(t.words.ids)
        for position, tag in zip(t.words.first, t.tags, strict=True):
            row[position] = tag
        labels.append(row)
    return TagBatch(
        ids=torch.from_numpy(pad(ids, pad_id)),
        mask=torch.from_numpy(pad([[1] * len(r) for r in ids])),
        labels=torch.from_numpy(pad(labels, IGNORED)),
    )


def length_batches(lengths: Sequence[int], size: int, rng: random.Random | None) -> Iterator[list[int]]:
    """Indices in batches of like length. With rng: shuffled, sorted inside pools of 16 batches, batches in random order."""
    order = list(range(len(lengths)))
    if rng is None:
        order.sort(key=lambda i: lengths[i])
        yield from (order[i : i + size] for i in range(0, len(order), size))
        return
    rng.shuffle(order)
    chunks: list[list[int]] = []
    for i in range(0, len(order), size * 16):
        pool = sorted(order[i : i + size * 16], key=lambda j: lengths[j])
        chunks += [pool[k : k + size] for k in range(0, len(pool), size)]
    rng.shuffle(chunks)
    yield from chunks


def shared_batches(examples: Sequence[Pair], size: int) -> Iterator[list[int]]:
    """Indices in batches of like length, `size` token sequences each; examples of equal tokens are in one batch."""
    alike: dict[object, list[int]] = {}
    for i, pair in enumerate(examples):
        alike.setdefault(pair.encoded.read, []).append(i)
    groups = list(alike.values())
    for chunk in length_batches([len(examples[group[0]].encoded.ids) for group in groups], size, None):
        yield [i for k in chunk for i in groups[k]]
