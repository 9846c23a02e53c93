"""Attention of the decoder over the slotted cache: one function, a kernel a device.

Each row is one sequence: some new tokens (queries, packed without padding) that see all of their slot up to
themselves. Keys and values of the new tokens are in the cache already.

CPU, and float32 on CUDA: PyTorch's scaled_dot_product_attention, row by row. CUDA in half precision: the FlashAttention
kernel inside PyTorch 2.11, which takes packed queries, grouped KV heads as they are, a first token and a used length a
row; nothing of it waits for the host, so a decoding step can be captured in a CUDA graph. The CUDA branch was never run
by its authors, who had no GPU: tests run its shapes and devices with PyTorch's fake tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["Rows", "attend"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where each row's queries and keys lie.

    `query_starts` int32 [rows + 1]: the packed queries' boundaries. `key_starts` int32 [rows + 1]: each row's first
    token in the pool, the last entry unused. `key_lengths` int32 [rows]: tokens in the slot, the new ones included.
    `most_queries`, `most_keys`: upper bounds that the kernel plans with.
    """

    query_starts: Tensor
    key_starts: Tensor
    key_lengths: Tensor
    most_queries: int
    most_keys: int


def attend(query: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    """Query [n, heads, dim], keys and values [pool, kv heads, dim] to [n, heads, dim]; causal within each row."""
    flash = query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)
    return (_flash if flash else _row_by_row)(query, keys, values, rows)


def _row_by_row(query: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    starts: Sequence[int] = rows.query_starts.tolist()
    output = torch.empty_like(query)
    spans = zip(starts, starts[1:], rows.key_starts.tolist(), rows.key_lengths.tolist(), strict=False)
    for first, last, key_first, length in spans:
        k = keys[key_first : key_first + length].transpose(0, 1)
        v = values[key_first : key_first + length].transpose(0, 1)
        kernel = _one if last - first == 1 else _several
        output[first:last] = kernel(query[first:last], k, v)
    return output


def _one(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One new token: the query heads of a group stand in for several queries of its KV head, nothing is copied."""
    kv_heads = len(keys)
    grouped = query.view(1, kv_heads, -1, query.shape[-1])
    return scaled_dot_product_attention(grouped, keys[None], values[None]).view_as(query)


def _several(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    new, total = len(query), keys.shape[1]
    group = query.shape[1] // len(keys)
    # Causal, aligned at the end: with tokens in the slot before the new ones the built-in flag would align at the start.
    mask = None if new == total else torch.ones(new, total, dtype=torch.bool, device=query.device).tril(total - new)
    y = scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        keys.repeat_interleave(group, dim=0)[None],
        values.repeat_interleave(group, dim=0)[None],
        attn_mask=mask,
        is_causal=mask is None,
    )
    return y[0].transpose(0, 1)


def _flash(query: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    # seqused_k gives the lengths, so cum_seq_k is read for each row's start alone and need not rise.
    output, *_ = torch.ops.aten._flash_attention_forward(
        query, keys, values, rows.query_starts, rows.key_starts, rows.most_queries, rows.most_keys,
        0.0, True, False, seqused_k=rows.key_lengths,
    )  # fmt: skip
    return output
