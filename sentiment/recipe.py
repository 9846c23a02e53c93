"""Everything that decides a polarity model's weights beside its data: arm, preset, rates."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = [
    "ARMS", "CHANGES", "GATES", "INPUTS", "LEVERS", "PAPER_SETS", "POOLS", "PRESETS", "Change", "Config", "change",
    "settings",
]  # fmt: skip

ARMS = ("cvib", "plain", "no_vib", "no_contrast")
INPUTS = ("pair", "sentence")
GATES = ("all", "lower", "upper", "last")
POOLS = ("span", "cls")
Change = tuple[str, str | float | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The defaults are the paper's, as for LAP14 (its dropout; b for REST14 and MAMS)."""

    arm: str = "cvib"
    input: str = "pair"  # [CLS] sentence [SEP] aspect [SEP]; `sentence`: [CLS] sentence [SEP], the aspect's span pooled
    epochs: int = 3
    seed: int = 0
    batch: int = 32
    accumulate: int = 1
    contrast: float = 0.25  # a
    tau: float = 0.05
    kl: float = 2.5e-7  # b
    dropout: float = 0.3
    encoder_lr: float = 5e-5
    bias_lr: float = 1e-3  # biases and LayerNorm weights, as the released code does; 0: like the encoder
    head_lr: float = 1e-3
    gate_lr: float = 5e-3
    noise_lr: float = 5e-3  # of logD alone: few steps need a faster one to get from -9 to where channels fall
    noise_travel: float = 0.0  # then noise_lr is set so that logD may go this far over the whole run, however short
    halve_gates: int = 10  # epochs after which the gates' rates are halved, again and again; 0: never
    warmup: float = 0.0  # share of the steps; then a linear fall to 0; 0: no schedule
    label_aware: bool = False
    symmetric: bool = False
    kl_per_channel: bool = False
    kl_warmup: float = 0.0  # share of the steps over which b rises from 0
    gates: str = "all"  # behind which layers: gates.places
    shared: bool = False  # one encoder for main and sub, each with its own head; main's pass leaves the gates out
    pool: str = "span"  # h = [mean of the aspect's tokens ; CLS]; `cls`: h = CLS
    own: bool = False  # of the grid: our own sentences beside the benchmark's


#: What an ablation may change of a preset: all that CVIB has and its plain twin has not, so the twin stays the same.
CHANGES = ("contrast", "tau", "label_aware", "symmetric", "kl", "kl_per_channel", "kl_warmup", "gate_lr", "noise_lr",
           "noise_travel", "halve_gates", "gates", "shared")  # fmt: skip
#: What may be changed of the system: the plain twin gets it as well.
LEVERS = ("pool", "own")


def settings(config: Config) -> dict[str, object]:
    """A config as result files and checkpoints hold it: without a lever at its default, which older ones do not know."""
    return {k: v for k, v in asdict(config).items() if k not in LEVERS or v != getattr(Config(), k)}


def change(text: str) -> Change:
    """`kl=1.0` or `shared=on` as name and value. Raises ValueError."""
    name, _, value = text.partition("=")
    if name not in CHANGES + LEVERS:
        raise ValueError(f"{name!r} is none of {', '.join(CHANGES + LEVERS)}")
    known = getattr(Config(), name)
    if isinstance(known, bool):
        return name, ("off", "on").index(value) == 1
    if isinstance(known, str):
        choices = {"gates": GATES, "pool": POOLS}[name]
        return name, choices[choices.index(value)]
    return name, type(known)(value)


# KL per channel, whatever the encoder and the length. Each of BERT-base's 12 x 768 channels is pressed by 0.02 / 9216 = 2.2e-6, as
# by the paper's 2.5e-7 in a text of 8.7 tokens; in one of 20 the paper presses 2.3 times as hard.
_IMPROVED: dict[str, object] = {
    "label_aware": True, "symmetric": True, "kl_per_channel": True, "kl": 0.02, "halve_gates": 0,
    "encoder_lr": 1e-4, "bias_lr": 0.0, "gate_lr": 1e-2, "noise_lr": 3e-2, "warmup": 0.06, "dropout": 0.1,
}  # fmt: skip
PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "improved": _IMPROVED,
    # From -9 a channel with mu = 1 falls at 0. Adam moves logD by its rate a step at most, so `improved` needs 600 steps to
    # let any channel fall; the paper's 2,190 steps on LAP14 may travel 12.8. This preset may travel 14 in any run.
    "pressed": {**_IMPROVED, "noise_travel": 14.0},
}

# The paper's own settings by set (its table of hyper-parameters), over the defaults above.
PAPER_SETS: dict[str, dict[str, object]] = {
    "REST14": {"contrast": 0.5, "tau": 0.1, "dropout": 0.1},
    "LAP14": {"kl": 1e-7, "gate_lr": 1e-2, "noise_lr": 1e-2},
    "REST15": {"kl": 1e-7},
    "REST16": {},
    "MAMS": {},
}
