"""How fast a training learns, and how hard the gates are pressed, from step to step of its optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from sentiment.recipe import Config

__all__ = ["Schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """`steps` are the optimizer's, in all epochs together."""

    config: Config
    steps: int

    @classmethod
    def over(cls, config: Config, examples: int) -> Schedule:
        """Of a training that sees so many examples an epoch."""
        batches = -(-examples // config.batch)
        return cls(config, -(-batches // config.accumulate) * config.epochs)

    def share(self, step: int) -> float:
        """Of the full rates: a linear rise over the warm-up, then a linear fall to 0; all of them without a warm-up."""
        if not self.config.warmup:
            return 1.0
        warm = max(1, int(self.steps * self.config.warmup))
        return min((step + 1) / warm, max(0.0, (self.steps - step) / max(1, self.steps - warm)))

    def gates_share(self, epochs: int) -> float:
        """Of the gates' rates, after so many epochs."""
        return 0.5 ** (epochs // self.config.halve_gates) if self.config.halve_gates else 1.0

    @property
    def noise_lr(self) -> float:
        """Of the gates' noise: as given, or so that all steps together may move it by `noise_travel`."""
        if not self.config.noise_travel:
            return self.config.noise_lr
        return self.config.noise_travel / sum(self.share(step) for step in range(self.steps))

    def pressure(self, step: int) -> float:
        """Share of the KL's weight in force."""
        return min(1.0, (step + 1) / (self.config.kl_warmup * self.steps)) if self.config.kl_warmup else 1.0
