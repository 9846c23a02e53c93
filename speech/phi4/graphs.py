"""Decode steps as CUDA graphs: at small batches launching the kernels takes longer than running them.

A graph is captured for each mode and each size of a ladder, at start; a batch is padded to the next size with rows
that write to a slot of their own. On a GPU the memory plan names the sizes; `Limits.graph_sizes` ([]: none) goes before it.
Never run on a GPU by its authors: only the padding is tested, with a recorder that runs eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from speech.phi4.model import Cache, Mode, Phi4Model
from speech.phi4.sampling import greedy

__all__ = ["DecodeGraphs", "Recorder", "cuda_recorder"]

Compute = Callable[[], tuple[Tensor, Tensor]]


class Recorder(Protocol):
    """Captures a computation on fixed tensors: returns its outputs, and what computes them anew in place."""

    def __call__(self, compute: Compute) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Graph:
    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    outputs: tuple[Tensor, Tensor]
    replay: Callable[[], None]


class DecodeGraphs:
    """`scratch` is the slot of the padding rows."""

    def __init__(
        self, model: Phi4Model, cache: Cache, *, sizes: Sequence[int], scratch: int, recorder: Recorder | None = None
    ) -> None:
        self._model = model
        self._cache = cache
        self._sizes = sorted(sizes)
        self._scratch = scratch
        self._recorder = recorder or cuda_recorder()
        self._graphs: dict[tuple[Mode, int], _Graph] = {}

    def capture(self) -> None:
        """Capture the whole ladder now, rather than while somebody waits."""
        for mode in (Mode.SPEECH, Mode.LANGUAGE):
            for size in self._sizes:
                self._capture(mode, size)

    def fits(self, rows: int) -> bool:
        """Whether a graph of the ladder holds so many rows."""
        return bool(self._sizes) and rows <= self._sizes[-1]

    def __call__(self, mode: Mode, ids: Tensor, slots: Tensor, lengths: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
        """The next ids and log-probabilities [rows], as `Phi4Model.decode` and `greedy` give them."""
        rows = len(ids)
        size = next(size for size in self._sizes if size >= rows)
        graph = self._graphs[mode, size]
        for fixed, given in zip(graph.inputs, (ids, slots, lengths, long), strict=True):
            fixed[:rows].copy_(given)
        graph.inputs[1][rows:] = self._scratch
        graph.inputs[2][rows:] = 0
        graph.replay()
        # The next replay writes over them.
        return graph.outputs[0][:rows].clone(), graph.outputs[1][:rows].clone()

    def _capture(self, mode: Mode, size: int) -> None:
        device = self._model.device
        ids, slots, lengths = (torch.zeros(size, dtype=torch.int64, device=device) for _ in range(3))
        slots += self._scratch
        long = torch.zeros(size, dtype=torch.bool, device=device)

        def compute() -> tuple[Tensor, Tensor]:
            return greedy(self._model.decode(self._cache, mode, ids, slots, lengths, long), [None] * size)

        outputs, replay = self._recorder(compute)
        self._graphs[mode, size] = _Graph(inputs=(ids, slots, lengths, long), outputs=outputs, replay=replay)


def cuda_recorder() -> Recorder:
    """Graphs that share one pool of memory, as they never run at the same time."""
    pool: Any = None

    def record(compute: Compute) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]:
        nonlocal pool
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # libraries allocate and choose on their first runs, which a capture must not see
                compute()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            outputs = compute()
        pool = pool or graph.pool()
        return outputs, graph.replay

    return record
