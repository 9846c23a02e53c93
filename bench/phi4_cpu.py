"""python -m bench.phi4_cpu: the engine's tokens a second over transformers' generate, on CPU, both in one run.

Some 100 M random parameters, 16 in flight, clips and answers of mixed length, stop tokens off. transformers runs batches of
16 with the adapter unmerged, as its users do; a batch ends with its longest answer, a row that is done is computed on.
Tokens beyond a request's length count for nobody. The times are CPU times of this process, so a busy machine matters less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speech.phi4.engine import Engine
from speech.phi4.generation import Generation, Prompt
from speech.phi4.limits import Limits
from speech.phi4.model import Mode, Phi4Model
from speech.phi4.stream import Vocabulary
from speech.phi4.tiny import make_tiny, special_id

BEFORE = (special_id("<|user|>"),)
AFTER = (*range(40, 50), special_id("<|end|>"), special_id("<|assistant|>"))
SIZE: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 2_048, "num_hidden_layers": 11, "num_attention_heads": 12,
    "num_key_value_heads": 4, "vocab_size": 20_000,
    "audio_config": {
        "hidden_size": 256, "intermediate_size": 384, "num_blocks": 4, "num_attention_heads": 4, "nemo_conv_channels": 64,
        "ext_pw_out_channel": 256, "depthwise_separable_out_channel": 256,
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """A clip at 16 kHz and how many tokens its answer has."""

    audio: NDArray[np.float32]
    tokens: int


def requests(count: int, seed: int = 0) -> list[Request]:
    """Utterances as calls have them: most are short, and so are their answers."""
    drawn = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        seconds = float(np.clip(drawn.lognormal(1.2, 0.7), 0.6, 15.0))
        audio = drawn.normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)
        made.append(Request(audio=audio, tokens=max(4, round(3.7 * seconds))))
    return made


def with_engine(folder: Path, work: Sequence[Request], flight: int) -> tuple[float, float]:
    """Tokens a second of CPU time, and of wall time."""
    model = Phi4Model.load(folder)
    limits = Limits(utterance_slots=flight, utterance_slot_tokens=320, summary_slots=0, shared_slots=0, guard=False)
    from tokenizers import Tokenizer

    vocabulary = Vocabulary(Tokenizer.from_file(str(folder / "tokenizer.json")))
    engine = Engine(model, limits, vocabulary=vocabulary, stop_ids=(), run=False)

    def run(some: Sequence[Request]) -> None:
        handles = [
            engine.submit(
                Generation(
                    prompt=Prompt(before=BEFORE, audio=one.audio, after=AFTER),
                    mode=Mode.SPEECH,
                    max_new_tokens=one.tokens,
                )
            )
            for one in some
        ]
        while engine.step():
            pass
        assert [len(handle.result(0).token_ids) for handle in handles] == [one.tokens for one in some]

    return timed(run, work)


def with_transformers(folder: Path, work: Sequence[Request], flight: int) -> tuple[float, float]:
    """The same of generate, in batches in the order of arrival."""
    from transformers import Phi4MultimodalFeatureExtractor, Phi4MultimodalForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    model: Any = Phi4MultimodalForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    model.load_adapter(str(folder / "speech-lora"))
    model.generation_config.eos_token_id = None
    extract = Phi4MultimodalFeatureExtractor.from_pretrained(folder)
    pad = special_id("<|endoftext|>")

    def run(some: Sequence[Request]) -> None:
        for first in range(0, len(some), flight):
            batch = some[first : first + flight]
            made = dict(extract([one.audio for one in batch], sampling_rate=16_000, return_tensors="pt"))
            prompts = [
                [*BEFORE, *[special_id("<|audio|>")] * int(size), *AFTER] for size in made["audio_embed_sizes"].tolist()
            ]
            longest = max(map(len, prompts))
            ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
            mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
            with torch.inference_mode():
                model.generate(
                    input_ids=ids, attention_mask=mask, do_sample=False, pad_token_id=pad,
                    max_new_tokens=max(one.tokens for one in batch), **made,
                )  # fmt: skip

    return timed(run, work)


def timed(run: Any, work: Sequence[Request]) -> tuple[float, float]:
    """Tokens a second of `run`, after a small run that pays for what is paid once."""
    run(work[:2])
    cpu, wall = time.process_time(), time.perf_counter()
    run(work)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    tokens = sum(one.tokens for one in work)
    return tokens / cpu, tokens / wall


def main() -> None:
    """Print both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--flight", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work = requests(options.requests)
    with tempfile.TemporaryDirectory(prefix="earful-phi4-") as temporary:
        folder = make_tiny(Path(temporary), std=0.02, rank=32, **SIZE)
        parameters = sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 4
        print(
            f"{parameters / 1e6:.0f} M parameters, {len(work)} requests, {options.flight} in flight, answers of "
            f"{min(one.tokens for one in work)} to {max(one.tokens for one in work)} tokens, {options.threads} threads"
        )
        engine = with_engine(folder, work, options.flight)
        stock = with_transformers(folder, work, options.flight)
        print(f"engine        {engine[0]:7.1f} tokens per CPU second {engine[1]:7.1f} per second")
        print(f"transformers  {stock[0]:7.1f} tokens per CPU second {stock[1]:7.1f} per second")
        print(f"ratio         {engine[0] / stock[0]:7.2f}                       {engine[1] / stock[1]:7.2f}")


if __name__ == "__main__":
    main()
