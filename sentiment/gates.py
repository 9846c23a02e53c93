"""VIB gates: one noisy multiplicative gate per encoder layer, which learns what channels the task can do without.

A gate sits behind the last LayerNorm of its layer, so a trained gate folds exactly into that LayerNorm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Gates", "VIBGate", "fold", "last_layer_norms", "places"]

_EPS = 1e-8
_LAYER_NORM = re.compile(r"(?:^|\.)layer\.(\d+)\.output\.LayerNorm$")


class VIBGate(nn.Module):
    """mu and logD are vectors of the hidden size; channel d is pruned when its noise variance exceeds mu_d^2."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.empty(size).normal_(1.0, 0.01))
        self.log_d = nn.Parameter(torch.empty(size).normal_(-9.0, 0.01))

    def keep(self) -> Tensor:
        """bool [size]: the channels that stay at inference."""
        return self.log_d < torch.log(self.mu.square() + _EPS)

    def z(self) -> Tensor:
        """[size]: the deterministic gate of inference."""
        return self.mu * self.keep().to(self.mu.dtype)

    def kl(self) -> Tensor:
        """[size]: the information a token's channel may carry, 0.5 * log(1 + mu^2 / (exp(logD) + 1e-8)), in nats."""
        return 0.5 * torch.log1p(self.mu.square() / (self.log_d.exp() + _EPS))

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, tokens, size]. In training one draw per example, shared by its tokens."""
        if not self.training:
            return x * self.z().to(x.dtype)
        noise = torch.randn(x.shape[0], 1, x.shape[-1], device=x.device, dtype=self.mu.dtype)
        z = self.mu + noise * torch.exp(self.log_d / 2)
        return x * z.to(x.dtype)


def last_layer_norms(encoder: nn.Module) -> list[nn.LayerNorm]:
    """The last LayerNorm of every layer, in order (BERT, MPNet, RoBERTa)."""
    found: dict[int, nn.LayerNorm] = {}
    for name, module in encoder.named_modules():
        match = _LAYER_NORM.search(name)
        if match and isinstance(module, nn.LayerNorm):
            found[int(match[1])] = module
    if not found:
        raise ValueError("no layer.N.output.LayerNorm in this encoder")
    return [found[i] for i in sorted(found)]


def places(where: str, layers: int) -> range:
    """Which of so many layers get a gate: `all`, the `lower` or `upper` half, or the `last` one."""
    half = layers // 2
    return {
        "all": range(layers),
        "lower": range(half),
        "upper": range(half, layers),
        "last": range(layers - 1, layers),
    }[where]


class Gates(nn.Module):
    """A gate behind each of these layers, attached by hooks: kept outside the encoder, whose library may re-initialise it."""

    def __init__(self, layers: Iterable[int], size: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(layer): VIBGate(size) for layer in sorted(layers)})
        self._aside = False

    def each(self) -> Iterator[VIBGate]:
        """The gates in layer order."""
        for _, gate in self.placed():
            yield gate

    def placed(self) -> Iterator[tuple[int, VIBGate]]:
        """Each gate with its layer, in order."""
        for layer, gate in self.layers.items():
            assert isinstance(gate, VIBGate)
            yield int(layer), gate

    def attach(self, encoder: nn.Module) -> None:
        """From now on the encoder's layers pass through the gates."""
        norms = last_layer_norms(encoder)
        for layer, gate in self.placed():
            if layer >= len(norms):
                raise ValueError(f"a gate for layer {layer} of {len(norms)}")
            norms[layer].register_forward_hook(lambda _m, _i, out, gate=gate: out if self._aside else gate(out))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Meanwhile the encoder runs without its gates: for the other network, where both share it."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def kl(self, lengths: Tensor, *, per_channel: bool) -> Tensor:
        """Scalar. Per example: real length * sum over layers and channels; per channel: the mean over layers and channels."""
        costs = torch.stack([gate.kl() for gate in self.each()])  # [layers, size]
        return costs.mean() if per_channel else costs.sum() * lengths.to(costs.dtype).mean()

    def prune_rates(self) -> list[float]:
        """Share of pruned channels of each layer that has a gate."""
        return [1.0 - float(gate.keep().float().mean()) for gate in self.each()]


@torch.no_grad()
def fold(gates: Gates, encoder: nn.Module) -> None:
    """Multiply each gate into its LayerNorm's weight and bias. The encoder must carry no hooks of these gates."""
    norms = last_layer_norms(encoder)
    for layer, gate in gates.placed():
        norm = norms[layer]
        if norm._forward_hooks:
            raise ValueError("fold into an encoder without attached gates, or they would act twice")
        z = gate.z().to(norm.weight.dtype)
        norm.weight.mul_(z)
        norm.bias.mul_(z)
