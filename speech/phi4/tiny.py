"""Makes checkpoints of the real layout that are small enough for tests: random weights, real files.

transformers itself writes base weights and configuration, so that the layout is its own; it is imported only here.
transformers' own initialisation makes every output ignore the audio (one token, repeated); so all matrices are drawn
anew with a standard deviation of 0.3, and log-mel is centred by the mean and scale that it really has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from speech.phi4.checkpoint import decoder_linears
from speech.phi4.config import read_config
from speech.phi4.lora import FOLDER

__all__ = ["SPECIAL_TOKENS", "TARGET", "VOCABULARY", "make_adapter", "make_tiny", "make_tokenizer", "tiny_config"]

VOCABULARY = 320
# In the order of their ids, which end at VOCABULARY - 1; the names are the published tokenizer's.
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|image|>", "<|audio|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", "<sep>",
)  # fmt: skip
# Exactly the decoder's four linear layers; a list of suffixes would also name the audio encoder's.
TARGET = r".*layers\.\d+\.(self_attn\.(qkv_proj|o_proj)|mlp\.(gate_up_proj|down_proj))$"
_MERGES_FROM = (
    "the quick brown fox jumps over the lazy dog and then there is nothing more to say about other things",
    "transcribe the audio clip into text translate the audio to English summarize the audio issue outcome actions",
)


def special_id(token: str) -> int:
    """The id of a special token in the tiny vocabulary."""
    return VOCABULARY - len(SPECIAL_TOKENS) + SPECIAL_TOKENS.index(token)


def tiny_config(**overrides: Any) -> Any:
    """A transformers configuration of some 117 k parameters; `overrides` are the decoder's keys or `audio_config`'s."""
    from transformers import Phi4MultimodalConfig

    hidden, heads = overrides.pop("hidden_size", 48), overrides.pop("num_attention_heads", 3)
    rotary = int(hidden // heads * 0.75)
    end = special_id("<|end|>")
    audio = {
        "hidden_size": 32, "intermediate_size": 48, "num_blocks": 2, "num_attention_heads": 2, "nemo_conv_channels": 16,
        "ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "bias_max_distance": 500,
        "audio_token_id": special_id("<|audio|>"),
    } | overrides.pop("audio_config", {})  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
        "crop_size": 28, "image_token_id": special_id("<|image|>"),
    }  # fmt: skip
    return Phi4MultimodalConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": hidden,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": heads,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "bos_token_id": special_id("<|endoftext|>"),
            "pad_token_id": special_id("<|endoftext|>"),
            "eos_token_id": [end, special_id("<|endoftext|>")],
            "original_max_position_embeddings": 4096,
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 4096,
                "short_factor": [1.0] * (rotary // 2),
                # The published ones rise from 1 to 47.77.
                "long_factor": [round(1 + 46.77 * i / max(1, rotary // 2 - 1), 2) for i in range(rotary // 2)],
            },
            "audio_config": audio,
            "vision_config": vision,
        }
        | overrides
    )


def make_tiny(
    folder: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    std: float = 0.3,
    rank: int = 4,
    alpha: float = 8.0,
    max_shard_size: str | int = "5GB",
    **overrides: Any,
) -> Path:
    """Writes base weights, speech LoRA, tokenizer and configuration to `folder`, the same for the same arguments."""
    from transformers import Phi4MultimodalFeatureExtractor, Phi4MultimodalForCausalLM

    torch.manual_seed(seed)
    model = Phi4MultimodalForCausalLM(tiny_config(**overrides))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if tensor.ndim > 1:
                tensor.normal_(0.0, std, generator=generator)
            elif name.endswith("bias"):
                tensor.normal_(0.0, 0.1, generator=generator)
        for name, tensor in model.named_buffers():
            if name.endswith("global_mean"):
                tensor.fill_(10.0)
            elif name.endswith("global_invstd"):
                tensor.fill_(0.25)
    model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    Phi4MultimodalFeatureExtractor().save_pretrained(folder)
    make_tokenizer(folder)
    make_adapter(folder, seed=seed + 1, rank=rank, alpha=alpha, std=std, dtype=dtype)
    return folder


def make_adapter(
    folder: Path, *, seed: int, rank: int = 4, alpha: float = 8.0, std: float = 0.3, dtype: torch.dtype = torch.float32
) -> None:
    """Writes a random speech LoRA for the checkpoint in `folder`, in the files that PEFT writes."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (out, into) in decoder_linears(read_config(folder)).items():
        for part, shape in (("A", (rank, into)), ("B", (out, rank))):
            drawn = torch.randn(shape, generator=generator) * std
            tensors[f"base_model.model.{module}.lora_{part}.weight"] = drawn.to(dtype)
    adapter = folder / FOLDER
    adapter.mkdir(exist_ok=True)
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none",
        "target_modules": TARGET, "inference_mode": True, "base_model_name_or_path": "",
    }  # fmt: skip
    (adapter / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def make_tokenizer(folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json: byte-level BPE of 320 entries, the special tokens last."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=0,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_MERGES_FROM, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise AssertionError(f"the tokenizer has {tokenizer.get_vocab_size()} entries")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 131072, "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
