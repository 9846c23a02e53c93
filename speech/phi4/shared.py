"""Beginnings that many prompts share: their keys and values are computed once and copied into each slot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from speech.phi4.model import Cache, Mode, Phi4Model, PrefillRow

__all__ = ["SharedPrompts"]

_Key = tuple[tuple[int, ...], Mode, bool]


class SharedPrompts:
    """Keeps the most recently used beginnings in `slots` of the cache; one for each mode and kind of RoPE."""

    def __init__(self, model: Phi4Model, cache: Cache, slots: Sequence[int]) -> None:
        self._model = model
        self._cache = cache
        self._free = list(slots)
        self._kept: OrderedDict[_Key, int] = OrderedDict()

    def copy(self, ids: tuple[int, ...], mode: Mode, long_rope: bool, slot: int) -> int:
        """Put the beginning `ids` into `slot`; returns the tokens that are there now: all, or none if they cannot be kept."""
        if not ids or not (self._free or self._kept):
            return 0
        key = (ids, mode, long_rope)
        source = self._kept.get(key)
        if source is None:
            place = self._free[-1] if self._free else next(iter(self._kept.values()))
            if len(ids) > self._cache.sizes[place]:
                return 0
            source = self._compute(key)
        self._kept.move_to_end(key)
        self._cache.copy_prefix(source, slot, len(ids))
        return len(ids)

    def _compute(self, key: _Key) -> int:
        ids, mode, long_rope = key
        slot = self._free.pop() if self._free else self._kept.popitem(last=False)[1]
        try:
            row = PrefillRow(slot=slot, start=0, embeds=self._model.embed(ids), mode=mode, long_rope=long_rope)
            self._model.prefill(self._cache, [row])
        except BaseException:
            self._free.append(slot)
            raise
        self._kept[key] = slot
        return slot
